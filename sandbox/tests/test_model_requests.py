"""Validation of client events. OpenAI's own types define the fields."""

import copy
import types as python_types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.live import SessionConfig, SessionUpdateConfig
from openai.types.realtime import (
    RealtimeClientEvent,
    RealtimeResponseCreateParams,
    RealtimeSessionCreateRequest,
)
from pydantic import BaseModel, TypeAdapter

from sandbox.model.errors import ClientError
from sandbox.model.fields import ByType, Fields, ListOf, Spec, Tagged
from sandbox.model.live.requests import SESSION as LIVE_SESSION
from sandbox.model.live.requests import UPDATE as LIVE_UPDATE
from sandbox.model.requests import RESPONSE, SESSION, check_event
from sandbox.tests import live
from sandbox.tests.models import function_tool
from sandbox.tests.realtime import Client, session_update, user_text

_CLIENT_EVENT: TypeAdapter[BaseModel] = TypeAdapter(RealtimeClientEvent)

TOOL = function_tool("look_up_order", number="string")
VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": 6000,
    "create_response": True,
    "interrupt_response": False,
}

VALID: list[dict[str, Any]] = [
    session_update(),
    session_update(tools=[TOOL], tool_choice="auto", max_output_tokens="inf"),
    session_update(tool_choice={"type": "function", "name": "x"}, max_output_tokens=4096),
    session_update(turn_detection=VAD),
    session_update(turn_detection=None),
    session_update(truncation="auto", tracing=None, include=[], reasoning={"effort": "low"}),
    {"type": "input_audio_buffer.append", "audio": "", "event_id": "mine"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {**user_text("Hi", id="mine"), "previous_item_id": "root"},
    {
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi"}],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "name": "x", "call_id": "call_1", "arguments": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
    },
    {
        "type": "conversation.item.truncate",
        "item_id": "x",
        "content_index": 0,
        "audio_end_ms": 1500,
    },
    {"type": "conversation.item.delete", "item_id": "x"},
    {"type": "conversation.item.retrieve", "item_id": "x"},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {"instructions": "Greet.", "tools": [], "tool_choice": "none"},
    },
    {"type": "response.cancel", "response_id": "resp_1"},
]


@pytest.mark.parametrize("event", VALID, ids=lambda event: event["type"])
def test_it_works(event: dict[str, Any]) -> None:
    _CLIENT_EVENT.validate_python(event)
    assert check_event(event) == event["type"]


def _session(**changes: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **changes}}


def _input(**changes: Any) -> dict[str, Any]:
    return _session(audio={"input": changes})


REFUSED = [
    ({"type": "session.update"}, "missing_required_parameter", "session"),
    (
        {"type": "session.update", "session": {}},
        "missing_required_parameter",
        "session.type",
    ),
    (_session(type="transcription"), "invalid_value", "session.type"),
    (_session(voice="marin"), "unknown_parameter", "session.voice"),
    (_session(instructions=7), "invalid_type", "session.instructions"),
    (_session(audio=[]), "invalid_type", "session.audio"),
    (_session(output_modalities=["video"]), "invalid_value", "session.output_modalities[0]"),
    (_session(output_modalities=[]), "empty_array", "session.output_modalities"),
    (_session(max_output_tokens=0), "integer_below_min_value", "session.max_output_tokens"),
    (_session(max_output_tokens=5000), "integer_above_max_value", "session.max_output_tokens"),
    (_session(max_output_tokens="many"), "invalid_value", "session.max_output_tokens"),
    (_session(max_output_tokens=[]), "invalid_type", "session.max_output_tokens"),
    (_session(tools={}), "invalid_type", "session.tools"),
    (_session(tools=[{"name": "x"}]), "missing_required_parameter", "session.tools[0].type"),
    (_session(tools=[{"type": "mcp"}]), "invalid_value", "session.tools[0].type"),
    (_session(tools=[{**TOOL, "strict": True}]), "unknown_parameter", "session.tools[0].strict"),
    (_session(tools=[{**TOOL, "name": "a b"}]), "invalid_value", "session.tools[0].name"),
    (
        _session(tools=[{**TOOL, "name": "x" * 65}]),
        "string_above_max_length",
        "session.tools[0].name",
    ),
    (_session(tools=[{**TOOL, "parameters": []}]), "invalid_type", "session.tools[0].parameters"),
    (_session(tool_choice="all"), "invalid_value", "session.tool_choice"),
    (_session(parallel_tool_calls=1), "invalid_type", "session.parallel_tool_calls"),
    (_input(format={"type": "g711_ulaw"}), "invalid_value", "session.audio.input.format.type"),
    (
        _input(format={"type": "audio/pcm", "rate": 16000}),
        "integer_below_min_value",
        "session.audio.input.format.rate",
    ),
    (
        _input(noise_reduction={"type": "none"}),
        "invalid_value",
        "session.audio.input.noise_reduction.type",
    ),
    (
        _input(turn_detection={"type": "server_vad", "threshold": 2}),
        "decimal_above_max_value",
        "session.audio.input.turn_detection.threshold",
    ),
    (
        _input(turn_detection={"type": "semantic_vad", "threshold": 0.5}),
        "unknown_parameter",
        "session.audio.input.turn_detection.threshold",
    ),
    (_input(turn_detection={}), "missing_required_parameter", None),
    (
        _session(audio={"output": {"voice": "nobody"}}),
        "invalid_value",
        "session.audio.output.voice",
    ),
    ({"type": "response.create", "resp": {}}, "unknown_parameter", "resp"),
    (
        {"type": "response.create", "response": {"conversation": "none"}},
        "invalid_value",
        "response.conversation",
    ),
    (
        {"type": "conversation.item.create", "item": {"role": "user"}},
        "missing_required_parameter",
        "item.type",
    ),
    (
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user"}},
        "missing_required_parameter",
        "item.content",
    ),
    (
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [{"type": "text"}]},
        },
        "invalid_value",
        "item.content[0].type",
    ),
    (
        {
            "type": "conversation.item.truncate",
            "item_id": "x",
            "content_index": 0,
            "audio_end_ms": 1.5,
        },
        "invalid_type",
        "audio_end_ms",
    ),
]


@pytest.mark.parametrize(("event", "code", "param"), REFUSED)
def test_what_is_wrong_is_named(event: dict[str, Any], code: str, param: str | None) -> None:
    with pytest.raises(ClientError) as refused:
        check_event(event)

    body = refused.value.body
    assert (body.type, body.code) == ("invalid_request_error", code)
    if param is not None:
        assert body.param == param
        assert f"'{param}'" in body.message or code == "invalid_value"


def test_the_words_are_those_of_openai() -> None:
    with pytest.raises(ClientError) as refused:
        check_event(_input(format={"type": "audio/pcm", "rate": 16000}))
    assert str(refused.value) == (
        "Invalid 'session.audio.input.format.rate': integer below minimum value. "
        "Expected a value >= 24000, but got 16000 instead."
    )

    with pytest.raises(ClientError) as refused:
        check_event(_session(type="session"))
    assert str(refused.value) == "Invalid value: 'session'. Supported values are: 'realtime'."

    with pytest.raises(ClientError) as refused:
        check_event(_session(instructions=["Hi"]))
    assert str(refused.value) == (
        "Invalid type for 'session.instructions': expected a string, but got an array instead."
    )


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where a JSON value has parts."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _paths(value[key], (*path, key))


def _with(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    """Return the value with another part in that place."""
    if not path:
        return part
    changed = copy.copy(value)
    changed[path[0]] = _with(value[path[0]], path[1:], part)
    return changed


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_event_breaks_a_session(data: st.DataObject) -> None:
    """Any change to a valid event gets a response, or is refused with an error."""
    client = Client()
    for _ in range(3):
        event = data.draw(st.sampled_from(VALID))
        path = data.draw(st.sampled_from(list(_paths(event))))
        client.send(_with(event, path, data.draw(JSON)))
    assert client.ask()


LIVE_VALID: list[dict[str, Any]] = [
    live.session_start(),
    {
        "type": "session.update",
        "session": {
            "delegation": {
                **live.responses(
                    {**TOOL, "strict": False},
                    {"type": "web_search"},
                    instructions="Be brief.",
                    max_output_tokens=100,
                    parallel_tool_calls=True,
                    reasoning={"effort": "none", "summary": "auto"},
                    service_tier="priority",
                    text={"verbosity": "low"},
                    tool_choice={"type": "function", "name": "look_up_order"},
                ),
                "acknowledgement_delay_ms": 400,
            }
        },
    },
    live.append(b"\xff" * 1_600),
    {"type": "session.input_audio.mute"},
    {"type": "session.input_audio.unmute"},
    {"type": "session.output_audio.fixture.play", "audio": "AAAA"},
    *[live.note(kind, "Hi") for kind in ("instructions", "thinking", "commentary")],
    live.typed("Hi"),
    live.result("call_1", "{}"),
    live.CREATE,
    {"type": "session.close", "event_id": "mine"},
]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_event_breaks_a_live_session(data: st.DataObject) -> None:
    """Any change to a valid event is refused, or one that OpenAI's types know too."""
    client = live.Client()
    for _ in range(3):
        event = data.draw(st.sampled_from(LIVE_VALID))
        path = data.draw(st.sampled_from(list(_paths(event))))
        client.send(_with(event, path, data.draw(JSON)))
    client.wait(200)


def test_the_history_of_a_live_session() -> None:
    history: list[dict[str, Any]] = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {
            "type": "message",
            "role": "user",
            "id": "item_1",
            "status": "completed",
            "content": [{"type": "input_text", "text": "Hello"}],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
    ]
    [started] = live.Client(start=live.session_start(input=history)).opening
    assert started["session"]["input"] == history

    two_parts = {"role": "user", "content": history[1]["content"] * 2}
    for refused in ([two_parts], history * 43, [{"role": "system", "content": []}]):
        error, _ = live.Client(start=live.session_start(input=refused)).opening
        assert error["error"]["param"].startswith("session.input")


# The fields that OpenAI's types have and the sandbox refuses.
UNSUPPORTED = {
    "session.prompt",
    "response.prompt",
    "response.input",
    "session.client",
    "session.triggers",
}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation, those in a list or a union too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, Annotated, list, python_types.UnionType):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _literals(annotation: Any) -> list[str]:
    """Return the strings that a Literal allows, one in a union too."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _literals(part)]


def _missing(spec: Spec, model: type[BaseModel], path: str) -> Iterator[str]:
    """Yield the paths of the model's fields that the description does not have."""
    match spec:
        case Fields():
            for name, field in model.model_fields.items():
                inner = f"{path}.{name}"
                if name not in spec.fields:
                    yield inner
                    continue
                for child in _models(field.annotation):
                    yield from _missing(spec.fields[name], child, inner)
        case Tagged():
            for tag in _literals(model.model_fields[spec.tag].annotation):
                if tag in spec.variants:
                    yield from _missing(spec.variants[tag], model, path)
        case ListOf():
            yield from _missing(spec.entry, model, path)
        case ByType():
            if spec.object:
                yield from _missing(spec.object, model, path)


@pytest.mark.parametrize(
    ("spec", "model", "path"),
    [
        (SESSION, RealtimeSessionCreateRequest, "session"),
        (RESPONSE, RealtimeResponseCreateParams, "response"),
        (LIVE_SESSION, SessionConfig, "session"),
        (LIVE_UPDATE, SessionUpdateConfig, "session"),
    ],
)
def test_no_field_of_openai_is_missing(spec: Spec, model: type[BaseModel], path: str) -> None:
    assert set(_missing(spec, model, path)) <= UNSUPPORTED
