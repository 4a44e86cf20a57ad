"""The codec of GPT-Live. It keeps the turns of a call, and the state of its backend."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from telephony.engine.audio import audio_size
from telephony.engine.bounds import LONGEST_NAME, clipped
from telephony.engine.codecs.fields import Fields, code_and_message
from telephony.engine.codecs.interface import Send
from telephony.engine.codecs.live.start import session_start
from telephony.engine.codecs.live.turns import Turns
from telephony.engine.codecs.live.work import Message, Work, append
from telephony.engine.codecs.relay import AgentRelay, caller_frames
from telephony.engine.commands import (
    CONFIGURATION,
    AddText,
    AddToolCall,
    AddToolResult,
    Command,
    Conclude,
    Configure,
    HistoryItem,
    Respond,
)
from telephony.engine.costs import TokenUsage
from telephony.engine.events import (
    Event,
    FunctionCall,
    ModelConfigured,
    ModelErrored,
    NotUnderstood,
    ResponseDone,
    ResponseStarted,
    SessionFull,
    SessionUsed,
)
from telephony.engine.model_errors import FATAL_CODES, PASSING_CODES
from telephony.engine.playback import BYTES_PER_MS, Playback
from telephony.engine.twilio_codec import Encoder

APPEND = b'{"type":"session.input_audio.append","audio":"'
DELTA = "session.output_audio.delta"
_LONGEST_SESSION = 100  # characters of a session's id; OpenAI's have about 30
_USED_EVERY_S = 1.0
# Of 100 ms of audio each, 95% come within 160 ms of the one before.
CUSHION_MS = 60
_CUSHION = base64.b64encode(b"\xff" * (CUSHION_MS * BYTES_PER_MS))
_GO_ON = "Speak now: go on with the conversation where it stopped."
# Silence in base64 is a series of slashes, since its bytes are 0xFF; so it ends, by its length.
_ENDS_OF_SILENCE = frozenset({"", "w==", "8="})


class LiveCodec:
    hears_at_once = False

    def __init__(self) -> None:
        self._is_started = False
        self._held: list[Message] = []  # until the session has started
        self._history: tuple[HistoryItem, ...] = ()
        self._due: list[Message] = []
        self._owed: list[Event] = []
        self._turns = Turns()
        self._work = Work()
        self._calls: list[FunctionCall] = []
        self._written: list[str] = []
        self._used_s = 0.0
        self._is_full = False

    # To the model

    def encode(self, command: Command) -> list[Message]:
        messages = self._messages(command)
        if self._is_started or isinstance(command, Configure):
            return messages
        self._held += messages
        return []

    def _messages(self, command: Command) -> list[Message]:
        match command:
            case Configure():
                # A refused configuration is sent again: OpenAI has kept nothing of it.
                self._history = command.history or self._history
                return [session_start(replace(command, history=self._history))]
            case Respond(instructions=""):
                return self._respond(command)
            case Respond():
                self._work.forget_failure()
                return [self._order(command.id, command.instructions)]
            case AddText(role="system"):
                self._owed.append(self._turns.added(command.item_id))
                return [append("instructions", command.item_id, command.text)]
            case AddText():
                self._owed.append(self._turns.added(command.item_id))
                return self._work.add_text(command.item_id, command.role, command.text)
            case AddToolCall():
                return []  # only the history has one
            case AddToolResult():
                self._owed.append(self._turns.added(command.item_id))
                return self._work.add_result(command.item_id, command.call_id, command.result)
            case Conclude():
                return [{"type": "session.close"}]
        # The model interrupts itself, and knows what the caller has heard.
        return []

    def _respond(self, command: Respond) -> list[Message]:
        if not self._is_started:  # the call goes on in this session
            return [self._order(command.id, _GO_ON)]
        if self._work.ask(command.id):
            return self._work.due()
        if (known := self._work.left_to_voice()) is not None:
            return [*known, self._order(command.id, _GO_ON)]
        # The voice has answered, or has nothing to say.
        self._owed += [
            ResponseStarted(command.id),
            ResponseDone(command.id, "completed", spoke=True, is_aside=True),
        ]
        return []

    def _order(self, command_id: str, text: str) -> Message:
        self._turns.is_voice_asked = True
        return append("instructions", command_id, text)

    def append_audio(self, payload: bytes) -> bytes:
        return APPEND + payload + b'"}'

    caller_frame = staticmethod(caller_frames(APPEND))

    def due(self) -> list[Message]:
        due, self._due = self._due, []
        return [*due, *self._work.due()]

    # From the model

    def decode(self, message: object) -> Sequence[Event]:
        fields = Fields(message)
        owed, self._owed = self._owed, []
        return [*owed, *self._full(), *self._read(fields)]

    def _full(self) -> list[Event]:
        """Report once that the backend may be given little more."""
        if self._is_full or not self._work.is_nearly_full:
            return []
        self._is_full = True
        return [SessionFull()]

    def closed(self) -> Sequence[Event]:
        return [*self._used(self._turns.clock_ms / 1000), *self._turns.cut()]

    def _read(self, fields: Fields) -> Iterator[Event]:
        match fields.text("type"):
            case "":
                yield NotUnderstood("an event without a type")
            case "session.started":
                self._is_started = True
                session = fields.object("session")
                self._turns.session = session.id("id")[:_LONGEST_SESSION] or "live"
                yield ModelConfigured(session.unix_time("expires_at"))
                self._due += self._held
                self._held = []
            case "session.output_audio.delta":
                yield from self._heard(fields.base64("delta"))
            case "session.input_transcript.delta":
                start_ms, end_ms = int(fields.amount("start_ms")), int(fields.amount("end_ms"))
                yield from self._turns.caller_said(fields.text("delta"), start_ms, end_ms)
            case "session.output_transcript.delta":
                yield from self._turns.agent_said(fields.text("delta"))
            case "response.event":
                yield from self._worked(fields.object("event"))
            case "session.usage.updated":
                yield from self._used(fields.object("usage").amount("seconds"))
            case "session.closed":
                yield from self._used(fields.object("usage").amount("seconds"))
                if fields.text("reason") == "expired":
                    yield from self._turns.cut()
                    yield ModelErrored("session_expired", "The session has expired.")
                else:
                    yield from self._turns.end()
            case "error":
                error = self._errored(fields)
                if error.code in FATAL_CODES:
                    yield from self._turns.cut()
                yield error

    def _heard(self, audio: str) -> Iterator[Event]:
        is_silent = _is_silent(audio)
        if not is_silent:
            yield from self._turns.sounded()
        ms = audio_size(audio.encode()) // BYTES_PER_MS
        yield from self._turns.passed(ms, is_silent=is_silent)
        if (clock_s := self._turns.clock_ms / 1000) >= self._used_s + _USED_EVERY_S:
            yield from self._used(clock_s)

    def _used(self, seconds: float) -> Iterator[Event]:
        """Report what is billed since the last time; OpenAI's own number comes rarely."""
        if seconds > self._used_s:
            more, self._used_s = seconds - self._used_s, seconds
            yield SessionUsed(round(more, 3))

    def _worked(self, event: Fields) -> Iterator[Event]:
        response = event.object("response")
        match event.text("type"):
            case "response.created":
                self._work.began()
                yield ResponseStarted(response.id("id"), is_backstage=True)
            case "response.output_item.done":
                self._made(event.object("item"))
            case "response.completed" | "response.incomplete" | "response.failed":
                yield self._done(response, event.text("type").removeprefix("response."))

    def _made(self, item: Fields) -> None:
        if item.text("type") == "message":
            self._written += [part.text("text") for part in item.objects("content")]
        call_id = item.id("call_id")
        is_call = item.text("type") == "function_call" and item.text("status") == "completed"
        if is_call and call_id:
            self._work.called(call_id)
            self._calls.append(FunctionCall(call_id, item.text("name"), item.text("arguments")))

    def _done(self, response: Fields, status: str) -> ResponseDone:
        calls, self._calls = tuple(self._calls), []
        written, self._written = " ".join(self._written).strip(), []
        self._work.ended(is_complete=status == "completed")
        code, message = code_and_message(response.object("error"))
        return ResponseDone(
            response.id("id"),
            status,
            calls if status == "completed" else (),
            reason=clipped(response.object("incomplete_details").text("reason"), LONGEST_NAME),
            written=written,
            usage=_token_usage(response.object("usage")),
            error_code=code if response.has("error") else "",
            error_message=message,
            is_backstage=True,
        )

    def _errored(self, fields: Fields) -> ModelErrored:
        error = fields.object("error")
        code, message = code_and_message(error)
        about = error.id("client_event_id") if self._is_started else CONFIGURATION
        if about or code in PASSING_CODES:
            self._work.refused(about, may_pass=code in PASSING_CODES)
        return ModelErrored(code, message, about)

    # The model's audio

    def audio(self, message: object) -> tuple[str, bytes] | None:
        """Return a sound. Silence is not sent: then a stall leaves no delay behind."""
        fields = Fields(message)
        audio = fields.base64("delta")
        if fields.text("type") != DELTA or _is_silent(audio):
            return None
        return self._turns.agent_item, audio.encode()

    def agent_audio(
        self, send: Send, encoder: Encoder, playback: Playback, clock: Callable[[], float]
    ) -> LiveAudio:
        return LiveAudio(send, encoder, playback, clock)


class LiveAudio(AgentRelay):
    """The model's audio to the caller: ten messages a second, all of which are parsed.

    A little silence goes before the first sound, so that one which comes a little late leaves no
    gap in the speech.
    """

    __slots__ = ()

    def play(self, item_id: str, payload: bytes) -> bool:
        if not self._playback.is_outstanding and self._playback.takes(item_id):
            self._send(self._encoder.media(_CUSHION))
        return super().play(item_id, payload)


def _token_usage(usage: Fields) -> TokenUsage:
    """Return the backend's tokens, with cached ones subtracted from the input."""
    cached = usage.object("input_tokens_details").tokens("cached_tokens")
    given = usage.tokens("input_tokens")
    return TokenUsage(
        text_in=max(0, given - cached), text_cached=cached, text_out=usage.tokens("output_tokens")
    )


def _is_silent(audio: str) -> bool:
    return audio.lstrip("/") in _ENDS_OF_SILENCE
