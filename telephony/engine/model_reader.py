"""What OpenAI's realtime model says. Audio has a shorter way: see ``relay``.

A tolerant reader: :func:`decode` raises nothing, whatever an event holds. Of an event that is not
as it should be, what can be read is read; what it cannot do without makes it ``NotUnderstood``.
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

# When the transcription is billed in tokens: a token of audio is a tenth of a second.
_AUDIO_TOKENS_PER_SECOND = 10
# Of tokens or seconds in one event. More is none of OpenAI's numbers, and no column holds its cost.
_MOST = 10_000_000
# A code of OpenAI's, and whatever else is a name (characters).
LONGEST_NAME = 64
# An id; OpenAI's have some thirty characters.
LONGEST_ID = 256
# The model writes 4,096 tokens at most.
LONGEST_ARGUMENTS = 32_768

_DELTA = "response.output_audio.delta"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class Fields:
    """A JSON object of the model's. Each field is read as what it should be, or as nothing."""

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
        """Return an id; "" for what is none, or too long to be remembered."""
        value = self.text(name)
        return value if len(value) <= LONGEST_ID else ""

    def object(self, name: str) -> Fields:
        return Fields(self._fields.get(name))

    def objects(self, name: str) -> list[Fields]:
        value = self._fields.get(name)
        return [Fields(entry) for entry in value] if isinstance(value, list) else []

    def amount(self, name: str) -> float:
        """Return a number that can be charged for; 0 in the place of what is none."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return 0
        return value if 0 <= value <= _MOST else 0

    def tokens(self, name: str) -> int:
        return int(self.amount(name))


def decode(message: object) -> Event | None:
    """Return what a parsed event says; None for one that changes nothing."""
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
    """Return ``(item_id, base64)`` of a delta of the model's audio; None if it is none."""
    fields = Fields(message)
    if fields.text("type") != _DELTA:
        return None
    item_id, audio = fields.id("item_id") or _nameless(fields), fields.text("delta")
    return (item_id, audio.encode()) if item_id and _BASE64.fullmatch(audio) else None


def _nameless(fields: Fields) -> str:
    """Return an item of ours for audio whose own cannot be read: it is heard, if not cut."""
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
    # One that ended for a reason we cannot read has ended: what it holds says for itself.
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
    """Whether the model completed a function call, also in a response that it did not complete."""
    return (call.text("status") or response_status) == "completed"


def _function_call(item: Fields) -> FunctionCall:
    arguments = item.raw("arguments")
    return FunctionCall(
        item.id("call_id"),
        item.text("name"),
        "" if arguments is None else arguments if isinstance(arguments, str) else None,
    )


def _is_spoken(message: Fields) -> bool:
    """Whether a message holds something else than text, or may do so."""
    parts = message.objects("content")
    is_text = all(part.text("type") in ("text", "output_text") for part in parts)
    return not (message.has("content") and is_text)


def _written(message: Fields) -> str:
    parts = [] if _is_spoken(message) else message.objects("content")
    return " ".join(part.text("text") for part in parts)


def _said(message: Fields) -> AgentTranscribed | None:
    """Return the text of what was spoken; its own event may be missing, or say only a part."""
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
    """Return code and message. An empty account has several codes, and one type.

    The message about a wrong key quotes parts of it, so it is replaced.
    """
    code = clipped(error.text("code") or error.text("type"), LONGEST_NAME) or "unknown"
    if error.text("type") == "insufficient_quota":
        code = "insufficient_quota"
    if code == "invalid_api_key":
        return code, "OpenAI does not accept the openaiApiKey."
    return code, clipped(error.text("message"))


def _token_usage(usage: Fields) -> TokenUsage:
    """Return OpenAI's numbers with the cached tokens taken out of the input they are part of."""
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


# None from a reader: the event lacks what it cannot do without.
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
    """Return the arguments of a tool call; raise ValueError with a sentence for the model."""
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
    """Read a number that JSON can be written with again."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number
