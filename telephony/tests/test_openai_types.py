"""Our messages to OpenAI, checked against the types of OpenAI's own library."""

import json
from dataclasses import replace

import pytest
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    InputAudioBufferCommitEvent,
    ResponseCancelEvent,
    ResponseCreateEvent,
    SessionUpdateEvent,
)
from pydantic import BaseModel

from telephony.engine import model_writer
from telephony.engine.plan import Tool
from telephony.engine.responses import PLAIN, Asked, Request
from telephony.tests.engine.conversation import PLAN


def is_strictly(event: dict, kind: type[BaseModel]) -> bool:
    """Return True if the event is of the type, has no unknown field, and loses none."""
    model = kind.model_validate(event, strict=True)
    return not model.model_extra and model.model_dump(exclude_unset=True, mode="json") == event


def test_session_update():
    plan = replace(PLAN, tools=(Tool("book", "Book.", {"type": "object", "properties": {}}),))
    event = model_writer.session_update(plan)
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


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (json.loads(model_writer.append_audio(b"AA==")), InputAudioBufferAppendEvent),
        (model_writer.commit_audio(), InputAudioBufferCommitEvent),
        (model_writer.response_create(Asked("sh_response_1", PLAIN)), ResponseCreateEvent),
        (
            model_writer.response_create(Asked("sh_response_2", Request("Say hello."))),
            ResponseCreateEvent,
        ),
        (
            model_writer.response_create(Asked("sh_response_3", Request(aloud=True))),
            ResponseCreateEvent,
        ),
        (model_writer.response_cancel(), ResponseCancelEvent),
        (model_writer.truncate("item_1", 1500), ConversationItemTruncateEvent),
        (model_writer.function_output("sh_1", "c1", {"a": 1}), ConversationItemCreateEvent),
        (model_writer.user_text("sh_2", "[…]"), ConversationItemCreateEvent),
    ],
)
def test_the_rest(event, kind):
    assert is_strictly(event, kind)
