"""Our messages to OpenAI, checked against the types of OpenAI's own library."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    InputAudioBufferCommitEvent,
    RealtimeClientEvent,
    RealtimeServerEvent,
    ResponseCancelEvent,
    ResponseCreateEvent,
    SessionUpdateEvent,
)
from pydantic import BaseModel

from telephony.engine import session as engine
from telephony.engine.codecs.realtime.writer import append_audio, encode
from telephony.engine.commands import (
    AddText,
    AddToolCall,
    AddToolResult,
    CancelResponse,
    CommitSpeech,
    Configure,
    Respond,
    Truncate,
)
from telephony.engine.plan import Tool
from telephony.tests.engine.conversation import PLAN

ENGINE = Path(engine.__file__).parent


def is_strictly(event: dict, kind: type[BaseModel]) -> bool:
    """Return True if the event is of the type, has no unknown field, and loses none."""
    model = kind.model_validate(event, strict=True)
    return not model.model_extra and model.model_dump(exclude_unset=True, mode="json") == event


def test_session_update():
    plan = replace(PLAN, tools=(Tool("book", "Book.", {"type": "object", "properties": {}}),))
    [event] = encode(Configure(plan))
    assert is_strictly(event, SessionUpdateEvent)
    assert event["session"]["audio"]["output"] == {
        "format": {"type": "audio/pcmu"},
        "voice": "marin",
    }
    assert [tool["name"] for tool in event["session"]["tools"]] == [
        "book",
        "end_call",
        "transfer_call",
        "send_dtmf",
    ]


def test_session_update_with_everything():
    plan = replace(PLAN, model="gpt-realtime-2", reasoning_effort="xhigh", max_output_tokens=4_096)
    [event] = encode(Configure(plan))
    assert is_strictly(event, SessionUpdateEvent)
    assert event["session"]["reasoning"] == {"effort": "xhigh"}
    assert event["session"]["max_output_tokens"] == 4_096


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (CommitSpeech(), InputAudioBufferCommitEvent),
        (Respond("sh_response_1"), ResponseCreateEvent),
        (Respond("sh_response_2", "Say hello."), ResponseCreateEvent),
        (Respond("sh_response_3", aloud=True), ResponseCreateEvent),
        (CancelResponse(), ResponseCancelEvent),
        (Truncate("item_1", 1500), ConversationItemTruncateEvent),
        (AddToolResult("sh_1", "c1", '{"a": 1}'), ConversationItemCreateEvent),
        (AddText("sh_2", "[…]"), ConversationItemCreateEvent),
        (AddText("sh_3", "[…]", role="system"), ConversationItemCreateEvent),
        (AddText("sh_4", "[…]", role="assistant"), ConversationItemCreateEvent),
        (AddToolCall("sh_5", "c1", "book", "{}"), ConversationItemCreateEvent),
    ],
)
def test_commands(command, kind):
    [event] = encode(command)
    assert is_strictly(event, kind)


def test_audio():
    assert is_strictly(json.loads(append_audio(b"AA==")), InputAudioBufferAppendEvent)


def test_only_codecs_name_events_of_the_protocol():
    events = {
        kind.model_fields["type"].annotation
        for union in (RealtimeClientEvent, RealtimeServerEvent)
        for kind in get_args(get_args(union)[0])
    }
    names = {name for event in events for name in get_args(event)} - {"error"}
    assert "response.done" in names
    texts = {
        node.value
        for path in ENGINE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    assert not names & texts
