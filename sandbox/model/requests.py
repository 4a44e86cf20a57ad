"""Every event that a client may send in the realtime API, field by field.

The sandbox accepts everything that the real server accepts, except MCP servers, images, stored
prompts and responses outside of the conversation.
"""

from __future__ import annotations

from typing import Any

from sandbox.model.fields import (
    AnyObject,
    ByType,
    Choice,
    Fields,
    Flag,
    Function,
    ListOf,
    MapOf,
    Number,
    Spec,
    Tagged,
    Text,
    check_one_of,
    client_event,
)
from sandbox.model.parts import FUNCTION, INPUT_TEXT, NAME, TOOL_CHOICE, voice

MOST_TRUNCATED_MS = 24 * 3_600_000

_EFFORTS = ("minimal", "low", "medium", "high", "xhigh")
_ID = Text(longest=32)
_MODALITIES = ListOf(Choice(("text", "audio")), may_be_empty=False)
_VOICE = voice()
_FORMAT = Tagged(
    "type",
    {
        "audio/pcm": Fields({"type": Text(), "rate": Number(24_000, 24_000)}),
        "audio/pcmu": Fields({"type": Text()}),
        "audio/pcma": Fields({"type": Text()}),
    },
)
_VAD: dict[str, Spec] = {"type": Text(), "create_response": Flag(), "interrupt_response": Flag()}
_TURN_DETECTION = Tagged(
    "type",
    {
        "server_vad": Fields(
            {
                **_VAD,
                "threshold": Number(0, 1, whole=False),
                "prefix_padding_ms": Number(0, 5_000),
                "silence_duration_ms": Number(0, 10_000),
                "idle_timeout_ms": Number(5_000, 30_000),
            }
        ),
        "semantic_vad": Fields({**_VAD, "eagerness": Choice(("low", "medium", "high", "auto"))}),
    },
)
_TRANSCRIPTION = Fields(
    {
        "model": Text(),
        "language": Text(),
        "languages": ListOf(Text()),
        "keywords": ListOf(Text()),
        "prompt": Text(),
        "delay": Choice(_EFFORTS),
    },
    required=("model",),
)
_NOISE_REDUCTION = Fields(
    {
        "type": Choice(("near_field", "far_field")),
        "strength": Number(0, 1, whole=False),
    }
)
_TOOLS = ListOf(Tagged("type", {"function": Function(FUNCTION, required=("name",))}))
_TRACING = ByType(
    text=Choice(("auto",)),
    object=Fields({"workflow_name": Text(), "group_id": Text(), "metadata": AnyObject()}),
)
_TRUNCATION = ByType(
    text=Choice(("auto", "disabled")),
    object=Tagged(
        "type",
        {
            "retention_ratio": Fields(
                {
                    "type": Text(),
                    "retention_ratio": Number(0, 1, whole=False),
                    "token_limits": Fields({"post_instructions": Number(0, 1_000_000)}),
                },
                required=("retention_ratio",),
            )
        },
    ),
)
_ANSWER: dict[str, Spec] = {
    "instructions": Text(),
    "max_output_tokens": ByType(text=Choice(("inf",)), number=Number(1, 4_096)),
    "output_modalities": _MODALITIES,
    "parallel_tool_calls": Flag(),
    "reasoning": Fields({"effort": Choice(_EFFORTS)}),
    "tools": _TOOLS,
    "tool_choice": TOOL_CHOICE,
}
SESSION = Fields(
    {
        **_ANSWER,
        "type": Choice(("realtime",)),
        "model": Text(),
        "include": ListOf(Choice(("item.input_audio_transcription.logprobs",))),
        "tracing": _TRACING,
        "truncation": _TRUNCATION,
        "audio": Fields(
            {
                "input": Fields(
                    {
                        "format": _FORMAT,
                        "noise_reduction": _NOISE_REDUCTION,
                        "transcription": _TRANSCRIPTION,
                        "turn_detection": _TURN_DETECTION,
                    }
                ),
                "output": Fields(
                    {
                        "format": _FORMAT,
                        "speed": Number(0.25, 1.5, whole=False),
                        "voice": _VOICE,
                    }
                ),
            }
        ),
    },
    required=("type",),
)
RESPONSE = Fields(
    {
        **_ANSWER,
        "conversation": Choice(("auto",)),
        "metadata": MapOf(Text(longest=512)),
        "audio": Fields({"output": Fields({"format": _FORMAT, "voice": _VOICE})}),
    }
)

_ITEM_FIELDS: dict[str, Spec] = {
    "id": _ID,
    "type": Text(),
    "object": Choice(("realtime.item",)),
    "status": Choice(("completed", "incomplete", "in_progress")),
}


def _message(**content: Spec) -> Fields:
    fields: dict[str, Spec] = {"role": Text(), "content": ListOf(Tagged("type", content))}
    return Fields({**_ITEM_FIELDS, **fields}, required=("content",))


_MESSAGE = Tagged(
    "role",
    {
        "system": _message(input_text=INPUT_TEXT),
        "user": _message(
            input_text=INPUT_TEXT,
            input_audio=Fields(
                {"type": Text(), "audio": Text(), "transcript": Text()}, required=("audio",)
            ),
        ),
        "assistant": _message(output_text=INPUT_TEXT),
    },
)
_ITEM = Tagged(
    "type",
    {
        "message": _MESSAGE,
        "function_call": Fields(
            {**_ITEM_FIELDS, "call_id": Text(), "name": NAME, "arguments": Text()},
            required=("name", "arguments"),
        ),
        "function_call_output": Fields(
            {**_ITEM_FIELDS, "call_id": Text(), "output": Text()}, required=("call_id", "output")
        ),
    },
)


_EVENTS = {
    "session.update": client_event(("session",), session=SESSION),
    "input_audio_buffer.append": client_event(("audio",), audio=Text()),
    "input_audio_buffer.commit": client_event(),
    "input_audio_buffer.clear": client_event(),
    "conversation.item.create": client_event(("item",), item=_ITEM, previous_item_id=Text()),
    "conversation.item.truncate": client_event(
        ("item_id", "content_index", "audio_end_ms"),
        item_id=Text(),
        content_index=Number(0, 0),
        audio_end_ms=Number(0, MOST_TRUNCATED_MS),
    ),
    "conversation.item.delete": client_event(("item_id",), item_id=Text()),
    "conversation.item.retrieve": client_event(("item_id",), item_id=Text()),
    "response.create": client_event(response=RESPONSE),
    "response.cancel": client_event(response_id=Text()),
}


def check_event(event: dict[str, Any]) -> str:
    """Return the event's type; raise :class:`ClientError` unless it is a valid client event."""
    return check_one_of(event, _EVENTS)
