"""Every event that a client may send on a primary WebSocket of GPT-Live, field by field.

The sandbox accepts everything that the real server accepts, except decisions, triggers, tools other
than functions and web search, and configuration for WebRTC.
"""

from __future__ import annotations

from typing import Any

from sandbox.model.fields import (
    Choice,
    Fields,
    Flag,
    Function,
    ListOf,
    Number,
    Spec,
    Tagged,
    Text,
    check_one_of,
    client_event,
)
from sandbox.model.parts import FUNCTION, INPUT_TEXT, TOOL_CHOICE, voice

MOST_INPUT_MESSAGES = 128
MOST_TOKENS = 1_000_000
LONGEST_DELAY_MS = 60_000

_TYPE: dict[str, Spec] = {"type": Text()}
_FORMAT = Tagged(
    "type",
    {
        "audio/pcm": Fields({**_TYPE, "rate": Number(16_000, 24_000)}, required=("rate",)),
        "audio/pcmu": Fields({**_TYPE, "rate": Number(8_000, 8_000)}, required=("rate",)),
        "audio/pcma": Fields({**_TYPE, "rate": Number(8_000, 8_000)}, required=("rate",)),
    },
)
_VOICE = voice(
    "beacon",
    "bossa",
    "cinder",
    "delta",
    "gleam",
    "meridian",
    "quartz",
    "ripple",
    "shida",
    "stone",
    "tempo",
    "vesper",
    "willow",
)
_RESPONSES: dict[str, Spec] = {
    "model": Text(),
    "instructions": Text(),
    "max_output_tokens": Number(1, MOST_TOKENS),
    "parallel_tool_calls": Flag(),
    "reasoning": Fields(
        {
            "effort": Choice(("none", "minimal", "low", "medium", "high", "xhigh")),
            "summary": Choice(("concise", "detailed", "auto")),
        }
    ),
    "service_tier": Choice(
        ("auto", "default", "fast_tier_temp_pilot", "flex", "priority", "ultrafast")
    ),
    "text": Fields({"verbosity": Choice(("low", "medium", "high"))}),
    "tool_choice": TOOL_CHOICE,
    "tools": ListOf(
        Tagged(
            "type",
            {
                "function": Function({**FUNCTION, "strict": Flag()}, required=("name",)),
                "web_search": Fields(_TYPE),
            },
        )
    ),
}


def _delegation(*required: str, of_responses: tuple[str, ...] = ()) -> Tagged:
    common = {**_TYPE, "acknowledgement_delay_ms": Number(0, LONGEST_DELAY_MS)}
    responses = Fields(_RESPONSES, required=of_responses)
    return Tagged(
        "type",
        {
            "client": Fields(common),
            "responses": Fields({**common, "responses": responses}, required=required),
        },
    )


def _history(part: Fields) -> Fields:
    return Fields(
        {
            "type": Choice(("message",)),
            "role": Text(),
            "id": Text(),
            "status": Choice(("incomplete", "completed")),
            "content": ListOf(part, may_be_empty=False, longest=1),
        },
        required=("content",),
    )


def _text_part(*kinds: str) -> Fields:
    return Fields({"type": Choice(kinds), "text": Text()}, required=("text",))


SESSION = Fields(
    {
        "model": Text(),
        "instructions": Text(),
        "audio": Fields({"format": _FORMAT, "output": Fields({"voice": _VOICE})}),
        "input": ListOf(
            Tagged(
                "role",
                {
                    "developer": _history(_text_part("input_text")),
                    "user": _history(_text_part("input_text")),
                    "assistant": _history(_text_part("text", "output_text")),
                },
            ),
            longest=MOST_INPUT_MESSAGES,
        ),
        "store": Flag(),
        "safety_identifier": Text(),
        "delegation": _delegation("responses", of_responses=("model",)),
    },
    required=("model",),
)
UPDATE = Fields({"delegation": _delegation()})

_ITEM = Tagged(
    "type",
    {
        "message": Fields(
            {
                **_TYPE,
                "role": Choice(("user", "system", "developer")),
                "content": ListOf(Tagged("type", {"input_text": INPUT_TEXT}), may_be_empty=False),
                "id": Text(),
                "status": Choice(("in_progress", "completed", "incomplete")),
            },
            required=("role", "content"),
        ),
        "function_call_output": Fields(
            {
                **_TYPE,
                "call_id": Text(longest=64),
                "output": Text(),
                "id": Text(),
                "status": Choice(("in_progress", "completed", "incomplete")),
            },
            required=("call_id", "output"),
        ),
    },
)
_APPEND = client_event(
    ("content",), present=("delegation_id",), content=Text(), delegation_id=Text()
)
_EVENTS = {
    "session.start": client_event(("session",), session=SESSION),
    "session.update": client_event(("session",), session=UPDATE),
    "session.input_audio.append": client_event(("audio",), audio=Text()),
    "session.input_audio.mute": client_event(),
    "session.input_audio.unmute": client_event(),
    "session.output_audio.fixture.play": client_event(("audio",), audio=Text()),
    "session.instructions.append": _APPEND,
    "session.thinking.append": _APPEND,
    "session.commentary.append": _APPEND,
    "response.item.create": client_event(("item",), item=_ITEM),
    "response.create": client_event(),
    "session.close": client_event(),
}


def check_event(event: dict[str, Any]) -> str:
    """Return the event's type; raise :class:`ClientError` unless it is a valid client event."""
    return check_one_of(event, _EVENTS)
