"""Reads the events of OpenAI's realtime API. ``relay`` handles most audio without parsing.

The reader is tolerant: :func:`decode` raises nothing, whatever an event contains. It reads the
fields that are valid, and returns ``NotUnderstood`` only if a required one is not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
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
    NotUnderstood,
    ResponseDone,
    ResponseStarted,
    SpeechCommitted,
    SpeechStarted,
    SpeechStopped,
)
from telephony.engine.model_writer import OWN_ITEM

# For transcription that is billed in tokens: a token of audio is a tenth of a second.
_AUDIO_TOKENS_PER_SECOND = 10
# Tokens or seconds in one event. OpenAI never sends more, and its cost would not fit the column.
_MOST = 10_000_000
# Characters of OpenAI's error codes and of other names.
LONGEST_NAME = 64
# Characters of an id; OpenAI's have about 30.
LONGEST_ID = 256
# Characters; the model writes at most 4,096 tokens.
LONGEST_ARGUMENTS = 32_768

_DELTA = "response.output_audio.delta"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class Fields:
    """A JSON object from the model. A field of the wrong type reads as empty."""

    def __init__(self, value: object) -> None:
        self._fields: Mapping[str, Any] = value if isinstance(value, Mapping) else {}

    def has(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def raw(self, name: str) -> Any:
        return self._fields.get(name)

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        return value if isinstance(value, str) else ""

    def id(self, name: str) -> str:
        """Return an id; "" if it is missing, invalid or too long to store."""
        value = self.text(name)
        return value if len(value) <= LONGEST_ID else ""

    def object(self, name: str) -> Fields:
        return Fields(self._fields.get(name))

    def objects(self, name: str) -> list[Fields]:
        value = self._fields.get(name)
        return [Fields(entry) for entry in value] if isinstance(value, list) else []

    def amount(self, name: str) -> float:
        """Return an amount to charge for; 0 if it is missing or invalid."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return 0
        return value if 0 <= value <= _MOST else 0

    def tokens(self, name: str) -> int:
        return int(self.amount(name))


def decode(message: object) -> Event | None:
    """Return the event of a parsed message; None if it changes nothing."""
    fields = Fields(message)
    kind = fields.text("type")
    if not kind:
        return NotUnderstood("an event without a type")
    read = _READERS.get(kind)
    if read is None:
        return None
    event = read(fields)
    return event if event is not None else NotUnderstood(kind)


def delta(message: object) -> tuple[str, bytes] | None:
    """Return ``(item_id, base64)`` of a delta of audio; None for anything else."""
    fields = Fields(message)
    if fields.text("type") != _DELTA:
        return None
    item_id, audio = fields.id("item_id") or _nameless(fields), fields.text("delta")
    return (item_id, audio.encode()) if item_id and _BASE64.fullmatch(audio) else None


def _nameless(fields: Fields) -> str:
    """Return an item id for audio without a valid one: it plays, but is never truncated."""
    response_id = fields.id("response_id")
    return f"{OWN_ITEM}{response_id}" if response_id else ""


def _item_added(fields: Fields) -> ItemAdded | None:
    item = fields.object("item")
    if not (item_id := item.id("id")):
        return None
    previous = fields.id("previous_item_id") or None
    return ItemAdded(item_id, previous, item.text("type"), item.text("role"))


def _caller_transcribed(fields: Fields) -> CallerTranscribed | None:
    item_id, text = fields.id("item_id"), fields.text("transcript")
    if not item_id and not text:
        return None
    return CallerTranscribed(item_id, text, _transcribed_seconds(fields.object("usage")))


def _agent_transcribed(fields: Fields) -> AgentTranscribed | None:
    item_id, text = fields.id("item_id"), fields.text("transcript")
    return AgentTranscribed(item_id, text) if item_id or text else None


def _transcribed_seconds(usage: Fields) -> float:
    if usage.text("type") == "duration":
        return float(usage.amount("seconds"))
    return usage.object("input_token_details").tokens("audio_tokens") / _AUDIO_TOKENS_PER_SECOND


def _response_done(fields: Fields) -> ResponseDone:
    response = fields.object("response")
    # Without a readable status, the response has still ended: its output shows the rest.
    status = response.text("status") or "completed"
    output = response.objects("output")
    messages = [item for item in output if item.text("type") == "message"]
    calls = [item for item in output if item.text("type") == "function_call"]
    done = [item for item in calls if _is_done(item, status)]
    details = response.object("status_details")
    code, error_message = _code_and_message(details.object("error"))
    return ResponseDone(
        response_id=response.id("id"),
        status=clipped(status, LONGEST_NAME),
        reason=clipped(details.text("reason"), LONGEST_NAME),
        calls=tuple(_function_call(item) for item in done if item.id("call_id")),
        spoke=any(_is_spoken(item) for item in messages),
        written=" ".join(_written(item) for item in messages).strip(),
        said=tuple(said for item in messages if (said := _said(item))),
        unread=sum(not item.text("type") for item in output)
        + sum(not item.id("call_id") for item in done)
        + (len(calls) - len(done) if status == "completed" else 0),
        usage=_token_usage(response.object("usage")),
        error_code=code if details.has("error") else "",
        error_message=error_message,
    )


def _is_done(call: Fields, response_status: str) -> bool:
    """Return True if the model completed the call, even if it did not complete the response."""
    return (call.text("status") or response_status) == "completed"


def _function_call(item: Fields) -> FunctionCall:
    arguments = item.raw("arguments")
    return FunctionCall(
        item.id("call_id"),
        item.text("name"),
        "" if arguments is None else arguments if isinstance(arguments, str) else None,
    )


def _is_spoken(message: Fields) -> bool:
    """Return True if a message has, or may have, content other than text."""
    parts = message.objects("content")
    is_text = all(part.text("type") in ("text", "output_text") for part in parts)
    return not (message.has("content") and is_text)


def _written(message: Fields) -> str:
    parts = [] if _is_spoken(message) else message.objects("content")
    return " ".join(part.text("text") for part in parts)


def _said(message: Fields) -> AgentTranscribed | None:
    """Return the transcript of speech; its own event may be missing or have only a part."""
    item_id = message.id("id")
    text = " ".join(part.text("transcript") for part in message.objects("content")).strip()
    return AgentTranscribed(item_id, text) if item_id and text else None


def _errored(fields: Fields) -> ModelErrored:
    if isinstance(text := fields.raw("error"), str):
        return ModelErrored("unknown", clipped(text))
    error = fields.object("error")
    return ModelErrored(
        *_code_and_message(error),
        event_id=error.id("event_id"),
        param=clipped(error.text("param"), LONGEST_NAME),
    )


def _code_and_message(error: Fields) -> tuple[str, str]:
    """Return code and message.

    An OpenAI account without credit has several codes and one type, so use the type. Replace the
    message about an invalid key, since it quotes parts of the key.
    """
    code = clipped(error.text("code") or error.text("type"), LONGEST_NAME) or "unknown"
    if error.text("type") == "insufficient_quota":
        code = "insufficient_quota"
    if code == "invalid_api_key":
        return code, "OpenAI does not accept the openaiApiKey."
    return code, clipped(error.text("message"))


def _token_usage(usage: Fields) -> TokenUsage:
    """Return OpenAI's numbers, with cached tokens subtracted from the input."""
    given = usage.object("input_token_details")
    cached = given.object("cached_tokens_details")
    made = usage.object("output_token_details")
    text_cached, audio_cached = cached.tokens("text_tokens"), cached.tokens("audio_tokens")
    return TokenUsage(
        text_in=max(0, given.tokens("text_tokens") - text_cached),
        audio_in=max(0, given.tokens("audio_tokens") - audio_cached),
        text_cached=text_cached,
        audio_cached=audio_cached,
        text_out=made.tokens("text_tokens"),
        audio_out=made.tokens("audio_tokens"),
    )


# A reader returns None if a required field is missing or invalid.
_READERS: dict[str, Callable[[Fields], Event | None]] = {
    "session.created": lambda _: ModelReady(),
    "session.updated": lambda _: ModelConfigured(),
    "input_audio_buffer.speech_started": lambda fields: SpeechStarted(fields.id("item_id")),
    "input_audio_buffer.speech_stopped": lambda fields: SpeechStopped(fields.id("item_id")),
    "input_audio_buffer.committed": lambda fields: SpeechCommitted(fields.id("item_id")),
    "conversation.item.added": _item_added,
    "conversation.item.input_audio_transcription.completed": _caller_transcribed,
    "conversation.item.input_audio_transcription.failed": lambda fields: (
        CallerTranscribed(item_id, "") if (item_id := fields.id("item_id")) else None
    ),
    "response.output_audio_transcript.done": _agent_transcribed,
    "response.output_audio.done": lambda fields: AgentAudioEnded(fields.id("item_id")),
    "response.created": lambda fields: ResponseStarted(fields.object("response").id("id")),
    "response.done": _response_done,
    "error": _errored,
    _DELTA: lambda _: None,
}


def arguments_of(text: str | None) -> dict[str, Any]:
    """Return the arguments of a tool call, or raise ValueError with a sentence for the model."""
    if text is None:
        raise ValueError("The arguments are not JSON text.")
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
    """Return a number that JSON can represent."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number
