"""Reads the events of OpenAI's Realtime protocol. ``relay`` handles most audio without parsing.

The reader is tolerant: :func:`decode` raises nothing, whatever an event contains. It reads the
fields that are valid, and returns ``NotUnderstood`` only if a required one is not.
"""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.bounds import LONGEST_NAME, clipped
from telephony.engine.codecs.fields import Fields, code_and_message
from telephony.engine.commands import CONFIGURATION, OWN_ITEM
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
    NotUnderstood,
    ResponseCollided,
    ResponseDone,
    ResponseStarted,
    SpeechCommitted,
    SpeechStarted,
    SpeechStopped,
)

# For transcription that is billed in tokens: a token of audio is a tenth of a second.
_AUDIO_TOKENS_PER_SECOND = 10

# One of our messages crossed one of the model's; nothing is lost.
_ALREADY_ACTIVE = "conversation_already_has_active_response"
HARMLESS_CODES = frozenset({"response_cancel_not_active", "input_audio_buffer_commit_empty"})

_DELTA = "response.output_audio.delta"


def decode(message: object) -> Event | None:
    """Return the event of a parsed message; None if it changes nothing."""
    fields = Fields(message)
    kind = fields.text("type")
    if not kind:
        return NotUnderstood("an event without a type")
    read = _READERS.get(kind)
    if read is None or delta(message):
        return None
    event = read(fields)
    if isinstance(event, ModelErrored) and event.code in HARMLESS_CODES:
        return None
    return event if event is not None else NotUnderstood(kind)


def delta(message: object) -> tuple[str, bytes] | None:
    """Return ``(item_id, base64)`` of a delta of audio; None for anything else."""
    fields = Fields(message)
    if fields.text("type") != _DELTA:
        return None
    item_id, audio = fields.id("item_id") or _nameless(fields), fields.base64("delta")
    return (item_id, audio.encode()) if item_id and audio else None


def _nameless(fields: Fields) -> str:
    """Return an item id for audio without a valid one: it plays, but is never truncated."""
    response_id = fields.id("response_id")
    return f"{OWN_ITEM}{response_id}" if response_id else ""


def _item_added(fields: Fields) -> ItemAdded | None:
    item = fields.object("item")
    if not (item_id := item.id("id")):
        return None
    previous = fields.id("previous_item_id") or None
    role = item.text("role")
    is_turn = item.text("type") == "message" or role == "user"
    return ItemAdded(item_id, previous, role if is_turn else "")


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
    code, error_message = code_and_message(details.object("error"))
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


def _errored(fields: Fields) -> ModelErrored | ResponseCollided:
    if isinstance(text := fields.raw("error"), str):
        return ModelErrored("unknown", clipped(text))
    error = fields.object("error")
    code, message = code_and_message(error)
    if code == _ALREADY_ACTIVE:
        return ResponseCollided()
    return ModelErrored(code, message, about=error.id("event_id") or _named_by(error.text("param")))


def _named_by(param: str) -> str:
    """Return the id of the command that a field belongs to, or the field if it is unknown."""
    return CONFIGURATION if param.startswith("session") else clipped(param, LONGEST_NAME)


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
    "session.updated": lambda fields: ModelConfigured(
        fields.object("session").unix_time("expires_at")
    ),
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
