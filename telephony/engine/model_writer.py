"""Writes client events for OpenAI's realtime API. ``relay`` writes most of the audio."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from telephony.engine.models import TRANSCRIPTION_MODEL
from telephony.engine.plan import CallPlan, Tool
from telephony.engine.responses import Asked

# The creator of an item chooses its id; those of ours begin with this.
OWN_ITEM = "sh_"
# The id of the event, which an error about it repeats.
CONFIGURATION = "sh_configuration"

APPEND = b'{"type":"input_audio_buffer.append","audio":"'


# Audio


def append_audio(payload: bytes) -> bytes:
    """Return the message that sends the model a frame of the caller's audio."""
    return APPEND + payload + b'"}'


def audio_size(payload: bytes) -> int:
    """Return the number of bytes of a base64 text (an escaped slash counts as one more)."""
    return len(payload) // 4 * 3 - payload[-2:].count(b"=")


# Everything else


def session_update(plan: CallPlan) -> dict[str, Any]:
    """Return the session's configuration: mu-law in both directions, turns by semantic VAD."""
    tools = (*plan.tools, *(_builtin(name, plan) for name in plan.builtin_tools))
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
                for tool in tools
            ],
            "tool_choice": "auto",
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


def _builtin(name: str, plan: CallPlan) -> Tool:
    tool = BUILTIN_TOOLS[name]
    if name != "transfer_call" or not plan.transfer_numbers:
        return tool
    to = {"type": "string", "enum": list(plan.transfer_numbers)}
    return replace(tool, parameters={**tool.parameters, "properties": {"to": to}})


def response_create(asked: Asked) -> dict[str, Any]:
    """Request a response; its own instructions replace the session's, and exclude tools."""
    event: dict[str, Any] = {"type": "response.create", "event_id": asked.event_id}
    if asked.request.instructions:
        event["response"] = {"instructions": asked.request.instructions, "tool_choice": "none"}
    elif asked.request.aloud:
        event["response"] = {"output_modalities": ["audio"]}
    return event


def response_cancel() -> dict[str, Any]:
    return {"type": "response.cancel"}


def commit_audio() -> dict[str, Any]:
    """End the caller's turn now, so that its transcript arrives."""
    return {"type": "input_audio_buffer.commit"}


def as_text(output: Any) -> str:
    """Return a tool's result for the model: a text as it is, anything else as JSON."""
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


def function_output(item_id: str, call_id: str, output: Any) -> dict[str, Any]:
    return {
        "type": "conversation.item.create",
        "item": {
            "id": item_id,
            "type": "function_call_output",
            "call_id": call_id,
            "output": as_text(output),
        },
    }


def user_text(item_id: str, text: str, *, role: str = "user") -> dict[str, Any]:
    """Return a text message from the caller or, with ``role`` system, from us."""
    return {
        "type": "conversation.item.create",
        "item": {
            "id": item_id,
            "type": "message",
            "role": role,
            "content": [{"type": "input_text", "text": text}],
        },
    }


def truncate(item_id: str, heard_ms: int) -> dict[str, Any]:
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": heard_ms,
    }


# The built-in tools that a plan may allow, by name.
BUILTIN_TOOLS = {
    "end_call": Tool(
        "end_call",
        "Hang up. Say goodbye first: the call ends when the caller has heard what you said.",
        {"type": "object", "properties": {}},
    ),
    "transfer_call": Tool(
        "transfer_call",
        "Put the caller through to another phone number, which ends your part of the call. Tell "
        "the caller first.",
        {
            "type": "object",
            "properties": {
                "to": {"type": "string", "description": "The number in E.164: +15551234567."}
            },
            "required": ["to"],
        },
    ),
    "send_dtmf": Tool(
        "send_dtmf",
        "Press keys on the phone's keypad, for example to get through another phone menu.",
        {
            "type": "object",
            "properties": {
                "digits": {
                    "type": "string",
                    "description": "0-9, *, #, A-D; w waits half a second.",
                }
            },
            "required": ["digits"],
        },
    ),
}
