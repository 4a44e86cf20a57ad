"""Writes client events of OpenAI's Realtime protocol. ``relay`` writes most of the audio."""

from __future__ import annotations

from typing import Any

from telephony.engine.builtin_tools import offered_tools
from telephony.engine.commands import (
    CONFIGURATION,
    AddText,
    AddToolCall,
    AddToolResult,
    CancelResponse,
    Command,
    CommitSpeech,
    Conclude,
    Configure,
    Respond,
    Truncate,
)
from telephony.engine.models import TRANSCRIPTION_MODEL
from telephony.engine.plan import CallPlan

APPEND = b'{"type":"input_audio_buffer.append","audio":"'


def append_audio(payload: bytes) -> bytes:
    """Return the message that sends the model a frame of the caller's audio."""
    return APPEND + payload + b'"}'


def encode(command: Command) -> list[dict[str, Any]]:
    """Return the client events for a command."""
    match command:
        case Configure():
            history = [event for item in command.history for event in encode(item)]
            return [_session_update(command.plan), *history]
        case Respond():
            return [_response_create(command)]
        case CancelResponse():
            return [{"type": "response.cancel"}]
        case CommitSpeech():
            return [{"type": "input_audio_buffer.commit"}]
        case AddText():
            return [_item(_text(command))]
        case AddToolCall():
            return [_item(_function_call(command))]
        case AddToolResult():
            return [_item(_function_output(command))]
        case Truncate():
            return [_truncate(command)]
        case Conclude():
            return []


def _session_update(plan: CallPlan) -> dict[str, Any]:
    """Return the session's configuration: mu-law in both directions, turns by semantic VAD."""
    return {
        "type": "session.update",
        "event_id": CONFIGURATION,
        "session": {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": plan.system_prompt,
            "tools": [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                }
                for tool in offered_tools(plan)
            ],
            "tool_choice": "auto",
            **_optional(plan),
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "noise_reduction": {"type": plan.noise_reduction},
                    "transcription": {"model": TRANSCRIPTION_MODEL},
                    "turn_detection": {
                        "type": "semantic_vad",
                        "eagerness": plan.vad_eagerness,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": plan.voice},
            },
        },
    }


def _optional(plan: CallPlan) -> dict[str, Any]:
    """Return the fields that not every model has, or that have no default of ours."""
    reasoning = {"effort": plan.reasoning_effort} if plan.reasoning_effort else None
    fields = {"reasoning": reasoning, "max_output_tokens": plan.max_output_tokens}
    return {name: value for name, value in fields.items() if value is not None}


def _response_create(asked: Respond) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "response.create", "event_id": asked.id}
    if asked.instructions:
        event["response"] = {"instructions": asked.instructions, "tool_choice": "none"}
    elif asked.aloud:
        event["response"] = {"output_modalities": ["audio"]}
    return event


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item}


def _text(added: AddText) -> dict[str, Any]:
    return {
        "id": added.item_id,
        "type": "message",
        "role": added.role,
        "content": [
            {
                "type": "output_text" if added.role == "assistant" else "input_text",
                "text": added.text,
            }
        ],
    }


def _function_call(added: AddToolCall) -> dict[str, Any]:
    return {
        "id": added.item_id,
        "type": "function_call",
        "call_id": added.call_id,
        "name": added.name,
        "arguments": added.arguments,
    }


def _function_output(added: AddToolResult) -> dict[str, Any]:
    return {
        "id": added.item_id,
        "type": "function_call_output",
        "call_id": added.call_id,
        "output": added.result,
    }


def _truncate(cut: Truncate) -> dict[str, Any]:
    return {
        "type": "conversation.item.truncate",
        "item_id": cut.item_id,
        "content_index": 0,
        "audio_end_ms": cut.heard_ms,
    }
