"""Helpers for tests of GPT-Live: a client without a socket, and OpenAI's own types as the judge."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

from openai.types.live import ClientEvent, ServerEvent
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from sandbox import speech
from sandbox.model import Script
from sandbox.model.live.session import LiveSession
from sandbox.model.script import Close, Drop
from sandbox.tests.models import AnyClient, of

_CLIENT_EVENT: TypeAdapter[BaseModel] = TypeAdapter(ClientEvent)
_SERVER_EVENT: TypeAdapter[BaseModel] = TypeAdapter(ServerEvent)
_BACKEND_EVENT: TypeAdapter[BaseModel] = TypeAdapter(ResponseStreamEvent)

DELTA = "session.output_audio.delta"
DELEGATED = "session.delegation.created"


def judge(event: dict[str, Any]) -> BaseModel:
    """Return the server's event as OpenAI's library parses it; it must know every field."""
    judged = _SERVER_EVENT.validate_python(event)
    assert_known(judged, event)
    if event["type"] == "response.event":
        assert_known(_BACKEND_EVENT.validate_python(event["event"]), event["event"])
    return judged


def judge_client(event: dict[str, Any]) -> None:
    """Check that OpenAI's library knows the client's event, and every field of it."""
    assert_known(_CLIENT_EVENT.validate_python(event), event)


def assert_known(judged: Any, given: Any) -> None:
    """Check that no field was given which the type does not have."""
    match judged, given:
        case BaseModel(), dict():
            assert type(judged).model_fields.keys() >= given.keys(), (type(judged), given)
            for name, value in given.items():
                assert_known(getattr(judged, name), value)
        case list(), list():
            for one, other in zip(judged, given, strict=True):
                assert_known(one, other)


def responses(*tools: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the delegation to a Responses model with these tools."""
    responses = {"model": "gpt-6-luna", "tools": list(tools), **fields}
    return {"type": "responses", "responses": responses}


def session_start(**changes: Any) -> dict[str, Any]:
    """Return the event that a phone call begins with."""
    session = {
        "model": "gpt-live-1.1",
        "instructions": "Be friendly.",
        "audio": {
            "format": {"type": "audio/pcmu", "rate": 8000},
            "output": {"voice": "marin"},
        },
        "input": [],
        "store": False,
        "delegation": responses(),
    }
    return {"type": "session.start", "event_id": "start_1", "session": {**session, **changes}}


def append(audio: bytes) -> dict[str, Any]:
    return {"type": "session.input_audio.append", "audio": base64.b64encode(audio).decode()}


def note(kind: str, content: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": f"session.{kind}.append",
        "delegation_id": None,
        "content": content,
        **fields,
    }


def result(call_id: str, output: str) -> dict[str, Any]:
    item = {"type": "function_call_output", "call_id": call_id, "output": output}
    return {"type": "response.item.create", "item": item}


def typed(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    return {"type": "response.item.create", "item": item}


CREATE = {"type": "response.create"}


class Client(AnyClient):
    """Talks to a session whose clock is the audio that is sent; every event is checked."""

    def __init__(self, *turns: Any, start: dict[str, Any] | None = None, **script: Any) -> None:
        self.session = LiveSession(Script(turns=turns, **script), expires_at=3_600, began_at=7)
        self.session.open()
        self.opening = self.send(session_start() if start is None else start)

    def send(self, *events: dict[str, Any]) -> list[Any]:
        """Return the output: events, and a Close or Drop."""
        outputs: list[Any] = []
        for event in events:
            is_listening = not (self.session.is_leaving or self.session.is_over)
            self.session.receive(json.dumps(event))
            self.session.advance(math.inf)
            new = self.session.take()
            if is_listening and not of(new, "error"):
                judge_client(event)
            outputs += new
        for output in outputs:
            if not isinstance(output, Close | Drop):
                judge(output)
        return outputs

    def play(self, frames: Iterable[bytes]) -> list[Any]:
        """Send frames of the caller's audio, as a phone call does."""
        return self.send(*map(append, frames))

    def wait(self, ms: int) -> list[Any]:
        """Let so much silence pass."""
        return self.play([speech.SILENCE] * (ms // speech.FRAME_MS))

    def say(self, text: str, then_ms: int = 3_000) -> list[Any]:
        """Say something, and listen for a while."""
        frames = speech.frames(text)
        short = -len(frames) % 5  # a whole number of steps
        return self.play([*frames, *[speech.SILENCE] * short]) + self.wait(then_ms)


def backend(events: list[Any], kind: str = "") -> list[dict[str, Any]]:
    """Return the events of the backend, without ``response.`` in front if there is a kind."""
    inner = [event["event"] for event in of(events, "response.event")]
    return [event for event in inner if not kind or event["type"] == f"response.{kind}"]


def calls(events: list[Any]) -> list[dict[str, Any]]:
    """Return the function calls that are complete."""
    items = [event["item"] for event in backend(events, "output_item.done")]
    return [item for item in items if item["type"] == "function_call"]


def transcript(events: list[Any], side: str) -> str:
    """Return what the session wrote down of one side: input or output."""
    return "".join(event["delta"] for event in of(events, f"session.{side}_transcript.delta"))
