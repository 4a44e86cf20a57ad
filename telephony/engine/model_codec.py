"""OpenAI's realtime events: read and built. Audio has a shorter way: see ``relay``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from telephony.engine.bounds import DEEPEST, clipped, is_deeper_than
from telephony.engine.costs import TokenUsage
from telephony.engine.events import (
    AgentAudioEnded,
    AgentTranscribed,
    CallerTranscribed,
    Event,
    FunctionCall,
    ItemAdded,
    ModelConfigured,
    ModelErrored,
    ModelReady,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
)
from telephony.engine.plan import CallPlan, Tool

TRANSCRIPTION_MODEL = "gpt-transcribe"
# An item is named by whoever creates it; ours begin with this.
OWN_ITEM = "sh_"
# When the transcription is billed in tokens: a token of audio is a tenth of a second.
_AUDIO_TOKENS_PER_SECOND = 10
# Of tokens or seconds in one event. More is none of OpenAI's numbers, and no column holds its cost.
_MOST = 10_000_000

# A code of OpenAI's, and whatever else is a name (characters).
LONGEST_NAME = 64
# The model writes 4,096 tokens at most.
LONGEST_ARGUMENTS = 32_768

APPEND = b'{"type":"input_audio_buffer.append","audio":"'


# Audio


def append_audio(payload: bytes) -> bytes:
    """Return the message that gives the model a frame of the caller's audio."""
    return APPEND + payload + b'"}'


def audio_size(payload: bytes) -> int:
    """Return how many bytes the base64 text stands for (an escaped slash counts as one more)."""
    return len(payload) // 4 * 3 - payload[-2:].count(b"=")


# What the model says


def decode(message: Mapping[str, Any]) -> Event | None:
    """Return what a parsed event says; None for one that changes nothing.

    Raises KeyError, TypeError or ValueError when an event lacks what it must have.
    """
    match message.get("type"):
        case "session.created":
            return ModelReady()
        case "session.updated":
            return ModelConfigured()
        case "input_audio_buffer.speech_started":
            return SpeechStarted(_text(message["item_id"]))
        case "input_audio_buffer.speech_stopped":
            return SpeechStopped(_text(message["item_id"]))
        case "conversation.item.added":
            return _item_added(message["item"], message.get("previous_item_id"))
        case "conversation.item.input_audio_transcription.completed":
            seconds = _transcribed_seconds(message.get("usage") or {})
            return CallerTranscribed(
                _text(message["item_id"]), _text(message["transcript"]), seconds
            )
        case "conversation.item.input_audio_transcription.failed":
            return CallerTranscribed(_text(message["item_id"]), "")
        case "response.output_audio_transcript.done":
            return AgentTranscribed(_text(message["item_id"]), _text(message["transcript"]))
        case "response.output_audio.done":
            return AgentAudioEnded(_text(message["item_id"]))
        case "response.created":
            return ResponseStarted(_text(message["response"]["id"]))
        case "response.done":
            return _response_done(message["response"])
        case "error":
            return ModelErrored(*_error(message["error"]))
    return None


def delta(message: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Return ``(item_id, base64)`` of a delta of the model's audio; None if it is another event."""
    if message.get("type") != "response.output_audio.delta":
        return None
    return _text(message["item_id"]), _text(message["delta"]).encode("ascii")


def _text(value: Any) -> str:
    """Return a string, or raise TypeError for whatever else JSON can have in its place."""
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _amount(value: Any) -> float:
    """Return a number that can be charged for; 0 in the place of what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= _MOST else 0


def _tokens(value: Any) -> int:
    return int(_amount(value))


def _item_added(item: Mapping[str, Any], previous: Any) -> ItemAdded:
    return ItemAdded(
        _text(item["id"]),
        None if previous is None else _text(previous),
        _text(item["type"]),
        _text(item.get("role") or ""),
    )


def _transcribed_seconds(usage: Mapping[str, Any]) -> float:
    if usage.get("type") == "duration":
        return float(_amount(usage["seconds"]))
    tokens = _tokens((usage.get("input_token_details") or {}).get("audio_tokens"))
    return tokens / _AUDIO_TOKENS_PER_SECOND


def _response_done(response: Mapping[str, Any]) -> ResponseDone:
    output = response.get("output") or []
    error = (response.get("status_details") or {}).get("error")
    code, error_message = _error(error) if error else ("", "")
    return ResponseDone(
        response_id=_text(response["id"]),
        status=_text(response["status"]),
        calls=tuple(
            FunctionCall(_text(item["call_id"]), _text(item["name"]), _text(item["arguments"]))
            for item in output
            if item["type"] == "function_call" and item.get("status") == "completed"
        ),
        spoke=any(item["type"] == "message" for item in output),
        usage=_token_usage(response.get("usage") or {}),
        error_code=code,
        error_message=error_message,
    )


def _error(error: Mapping[str, Any]) -> tuple[str, str]:
    """Return code and message. An empty account has several codes, and one type.

    The message about a wrong key quotes parts of it, so it is replaced.
    """
    code = clipped(error.get("code") or error.get("type"), LONGEST_NAME) or "unknown"
    if error.get("type") == "insufficient_quota":
        code = "insufficient_quota"
    if code == "invalid_api_key":
        return code, "OpenAI does not accept the openaiApiKey."
    return code, clipped(error.get("message"))


def _token_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Return OpenAI's numbers with the cached tokens taken out of the input they are part of."""
    given = usage.get("input_token_details") or {}
    cached = given.get("cached_tokens_details") or {}
    made = usage.get("output_token_details") or {}
    text_cached = _tokens(cached.get("text_tokens"))
    audio_cached = _tokens(cached.get("audio_tokens"))
    return TokenUsage(
        text_in=max(0, _tokens(given.get("text_tokens")) - text_cached),
        audio_in=max(0, _tokens(given.get("audio_tokens")) - audio_cached),
        text_cached=text_cached,
        audio_cached=audio_cached,
        text_out=_tokens(made.get("text_tokens")),
        audio_out=_tokens(made.get("audio_tokens")),
    )


def arguments_of(text: str) -> dict[str, Any]:
    """Return the arguments of a tool call; raise ValueError with a sentence for the model."""
    if len(text) > LONGEST_ARGUMENTS:
        raise ValueError(f"The arguments have more than {LONGEST_ARGUMENTS:,} characters.")
    try:
        arguments = json.loads(text or "{}", parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError("The arguments are not a JSON object.")
    if is_deeper_than(arguments):
        raise ValueError(f"The arguments are nested more than {DEEPEST} deep.")
    return arguments


def _finite(text: str) -> float:
    """Read a number that JSON can be written with again."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


# What the model is told


def session_update(plan: CallPlan) -> dict[str, Any]:
    """Return the configuration of the session: mu-law both ways, turns by semantic VAD."""
    tools = (*plan.tools, *(_builtin(name, plan) for name in plan.builtin_tools))
    return {
        "type": "session.update",
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
    tool = _BUILTIN[name]
    if name != "transfer_call" or not plan.transfer_numbers:
        return tool
    to = {"type": "string", "enum": list(plan.transfer_numbers)}
    return replace(tool, parameters={**tool.parameters, "properties": {"to": to}})


def response_create(instructions: str = "") -> dict[str, Any]:
    """Ask for a response; instructions of its own replace the session's, and leave tools out."""
    if not instructions:
        return {"type": "response.create"}
    return {
        "type": "response.create",
        "response": {"instructions": instructions, "tool_choice": "none"},
    }


def response_cancel() -> dict[str, Any]:
    return {"type": "response.cancel"}


def commit_audio() -> dict[str, Any]:
    """End the caller's turn now, so that its transcript comes."""
    return {"type": "input_audio_buffer.commit"}


def function_output(item_id: str, call_id: str, output: Any) -> dict[str, Any]:
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return {
        "type": "conversation.item.create",
        "item": {
            "id": item_id,
            "type": "function_call_output",
            "call_id": call_id,
            "output": text,
        },
    }


def user_text(item_id: str, text: str) -> dict[str, Any]:
    return {
        "type": "conversation.item.create",
        "item": {
            "id": item_id,
            "type": "message",
            "role": "user",
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


_BUILTIN = {
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
