"""One session of GPT-Live on its primary WebSocket, without a socket or a clock.

Two times matter. The session's own clock advances with the input audio; everything that the model
does happens on it, so without input there is no output. What happens to the connection happens in
the time that ``advance`` sets.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Generator, Iterator
from typing import Any

from sandbox import speech
from sandbox.model import persona
from sandbox.model.base import Event, ModelSession
from sandbox.model.conversation import decode_audio
from sandbox.model.errors import ClientError, ErrorBody
from sandbox.model.hearing import InputBuffer, SpeechStarted, VadSettings
from sandbox.model.live.backend import CALL_MS, CONTINUE_MS, Backend, functions
from sandbox.model.live.requests import check_event
from sandbox.model.live.settings import expect_changeable, started_session, updated_session
from sandbox.model.live.voice import STEP_BYTES, STEP_MS, Fragment, Transcript, Voice
from sandbox.model.response import THINKING_MS, Pause
from sandbox.model.script import (
    Call,
    Close,
    Disturbance,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Incomplete,
    Say,
    Script,
    Stall,
    Step,
    Turn,
    Wait,
)
from sandbox.model.timeline import Action, Timeline
from sandbox.model.usage import text_tokens

# The clock may be this far ahead of real time, so that audio that waited for the start is heard.
AHEAD_MS = 1_000.0
# What the model takes to fall silent when it is interrupted, to acknowledge, to find words.
YIELDING_MS = 200.0
ACK_MS = 150.0
UTTERING_MS = 600.0
TRANSCRIPT_MS = 400.0
USAGE_MS = 15_000
MOST_APPENDED_TOKENS = 500
LONGEST_FIXTURE_MS = 30_000
FIXTURE_BYTES_PER_MS = 48
FINALIZING_MS = 300.0
REFUSED_MS = 2_000.0
CONTEXT_TOKENS = 128_000
TOKENS_PER_SECOND = 30
ACKNOWLEDGEMENT = "One moment."

Steps = Iterator[Pause | Disturbance]


class LiveSession(ModelSession):
    """The model's side of a connection, from ``session.start`` on.

    ``refusal`` is why no session may start, ``began_at`` the time in Unix seconds.
    """

    def __init__(
        self,
        script: Script,
        number: int = 1,
        *,
        expires_at: int = 0,
        began_at: int = 0,
        refusal: ErrorBody | None = None,
    ) -> None:
        super().__init__(script, number)
        self._expires_at = expires_at
        self._began_at = began_at
        self._refusal = refusal
        self._connection = Timeline()
        self._now_ms = 0.0
        self._started_ms = 0.0
        self.settings: dict[str, Any] = {}
        self.is_leaving = False  # refused or closing

        self._clock_ms = 0
        self._input = bytearray()
        self._is_muted = False
        self._ear = InputBuffer()
        self._ear.vad = VadSettings()
        self._is_caller_speaking = False
        self._heard_turns = 0
        self._said: list[str] = []
        self._caller = Transcript()
        self._late: list[Fragment] = []  # of the caller's transcript

        self._voice = Voice()
        self._model = Transcript()
        self._kept: list[str] = []
        self._direct: Steps = iter(())
        self._has_spoken = False
        self._fixture: str | None = None
        self._is_fixture_playing = False

        self._backend = Backend(self._new_id)
        self._task: str | None = None
        self._unacknowledged: str | None = None
        self._delegations: set[str] = set()
        self._appended = 0

    # Time

    @property
    def next_ms(self) -> float | None:
        times = [self._connection.next_ms]
        if self._has_step:
            times.append(self._step_due_ms)
        return min((time for time in times if time is not None), default=None)

    def advance(self, now_ms: float) -> None:
        self._now_ms = now_ms
        self._connection.advance(now_ms)
        while self._has_step and self._step_due_ms <= now_ms:
            self._step()

    @property
    def _has_step(self) -> bool:
        is_running = bool(self.settings) and not self.is_leaving and not self.is_over
        return is_running and len(self._input) >= STEP_BYTES

    @property
    def _step_due_ms(self) -> float:
        return self._started_ms + self._clock_ms + STEP_MS - AHEAD_MS

    def _step(self) -> None:
        audio = bytes(self._input[:STEP_BYTES])
        del self._input[:STEP_BYTES]
        self._clock_ms += STEP_MS
        self._timeline.advance(self._clock_ms)
        if self.is_over or self.is_leaving:
            return
        self._hear(b"\xff" * STEP_BYTES if self._is_muted or self._is_fixture_playing else audio)
        self._speak()
        if self._clock_ms % USAGE_MS == 0:
            self._emit(
                {
                    "type": "session.usage.updated",
                    "usage": self._usage,
                    "context_window": {"usage_ratio": self._usage_ratio},
                }
            )

    # The connection

    def _opened(self) -> None:
        """Say nothing: the client begins."""

    def _handle(self, event: Event) -> None:
        if self.is_leaving:
            return
        kind = str(event.get("type"))
        if kind == "session.start" and not self.settings:
            self._start(event)
            return
        if kind == "session.update":
            expect_changeable(event.get("session"))
        _HANDLERS[self._expected(check_event(event))](self, event)

    def _expected(self, kind: str) -> str:
        if kind == "session.start":
            raise ClientError("The session has already started.", code="session_already_started")
        if not self.settings:
            raise ClientError(
                "Send session.start first, and wait for session.started.",
                code="session_not_started",
            )
        return kind

    def _start(self, event: Event) -> None:
        """Start the session, or refuse it: with an error in place of ``session.started``."""
        try:
            check_event(event)
            if self._refusal:
                raise ClientError.of(self._refusal)
            session_id = self._new_id("live")
            settings = started_session(session_id, self._expires_at, event["session"])
            self._read_scripts(settings)
        except ClientError as error:
            self._leave(error.body)
            return
        self.settings = settings
        self._has_spoken = bool(settings["input"])
        self._started_ms = self._now_ms
        self._answer(event, "session.started", session=settings)

    def _update(self, event: Event) -> None:
        settings = updated_session(self.settings, event["session"])
        self._read_scripts(settings)
        self.settings = settings
        self._answer(event, "session.updated", session=settings)

    def _read_scripts(self, settings: dict[str, Any]) -> None:
        backend = (settings["delegation"].get("responses") or {}).get("instructions")
        self._read_script(
            f"{settings['instructions'] or ''}\n{backend or ''}", "session.instructions"
        )

    def fail(self, body: ErrorBody) -> None:
        if not self.settings or body.close:
            self._leave(body)
        else:
            self._refuse(body, None)

    def expire(self) -> None:
        self._closed("expired")

    def _close(self, event: Event) -> None:
        self.is_leaving = True
        event_id = event.get("event_id")
        self._connection.after(FINALIZING_MS, lambda: self._closed("close_requested", event_id))

    def _closed(self, reason: str, event_id: str | None = None) -> None:
        if self.settings:
            self._transcribe_the_rest()
            self._answer(
                {"event_id": event_id},
                "session.closed",
                reason=reason,
                usage=self._usage,
                session=self.settings,
            )
        self._end(Close(1000))

    def _leave(self, body: ErrorBody) -> None:
        """Send the error; the socket goes a little later."""
        self._refuse(body, None)
        self.is_leaving = True
        self._connection.after(REFUSED_MS, lambda: self._end(Close(1000)))

    def _refuse(self, body: ErrorBody, event_id: str | None) -> None:
        error = {**body.wire(), "code": body.code or body.type}
        if event_id is not None:
            error["client_event_id"] = event_id
        self._emit({"type": "error", "error": error})

    def _after(self, ms: float, action: Action) -> None:
        # Before the session starts, its own clock stands still.
        (self._timeline if self.settings else self._connection).after(ms, action)

    def _end(self, how: Close | Drop) -> None:
        super()._end(how)
        self._connection.clear()

    @property
    def used_s(self) -> float:
        """The seconds that are billed so far."""
        return self._clock_ms / 1000

    @property
    def _usage(self) -> dict[str, float]:
        return {"seconds": self.used_s}

    @property
    def _usage_ratio(self) -> float:
        read = text_tokens(self.settings["instructions"] or "") + self._appended
        tokens = read + self._clock_ms * TOKENS_PER_SECOND // 1000
        return round(min(1.0, tokens / CONTEXT_TOKENS), 4)

    # The caller

    def _append_audio(self, event: Event) -> None:
        try:
            self._input += decode_audio(event["audio"], "audio")
        except ClientError as error:
            raise ClientError(str(error), code="invalid_audio", param="audio") from None

    def _mute(self, event: Event) -> None:
        self._is_muted = True
        self._answer(event, "session.input_audio.muted")

    def _unmute(self, event: Event) -> None:
        self._is_muted = False
        self._answer(event, "session.input_audio.unmuted")

    def _hear(self, audio: bytes) -> None:
        for detected in self._ear.append(audio):
            if isinstance(detected, SpeechStarted):
                self._caller_started()
            else:
                self._caller_stopped()
        if fragment := self._caller.hear(audio, self._clock_ms):
            self._transcribe(fragment)

    def _transcribe(self, fragment: Fragment) -> None:
        """Schedule what the caller said for later: transcripts lag behind."""
        listed = self._script.transcripts_ms
        turn = self._heard_turns
        delay_ms = listed[turn] if turn < len(listed) else TRANSCRIPT_MS
        if delay_ms is not None and not self._script.transcription_fails:
            self._late.append(fragment)
            self._timeline.after(delay_ms, lambda: self._transcribed(fragment))

    def _transcribed(self, fragment: Fragment) -> None:
        self._late.remove(fragment)
        self._emit(_delta("input", fragment))

    def _transcribe_the_rest(self) -> None:
        """Send at once what is left of the transcripts."""
        if fragment := self._caller.finish(self._clock_ms):
            self._transcribe(fragment)
        for fragment in list(self._late):
            self._transcribed(fragment)
        if fragment := self._model.finish(self._clock_ms):
            self._emit(_delta("output", fragment))

    def _caller_started(self) -> None:
        self._is_caller_speaking = True
        _cancel(self._direct)
        self._timeline.after(YIELDING_MS, self._voice.stop)

    def _caller_stopped(self) -> None:
        self._is_caller_speaking = False
        self._heard_turns += 1
        self._said.append(speech.hear([self._ear.take()]))
        kept, self._kept = self._kept, []
        for text in kept:
            self._utter(text)
        if not self._backend.has_open_task:
            self._think(THINKING_MS + (UTTERING_MS if kept else 0))

    def _think(self, ms: float) -> None:
        self._perform(self._reply(), ms)

    def _reply(self) -> Iterator[Step]:
        """Yield the steps that answer what the caller has said by the time of the first one."""
        said = " ".join(self._said)
        self._said.clear()
        yield from self._next_turn(
            persona.Prompt(
                instructions=self.settings["instructions"] or "",
                said=said,
                tools=functions(self._responses or {}),
                tool_choice=(self._responses or {}).get("tool_choice") or "auto",
                is_first=not self._has_spoken,
            )
        )

    def _next_turn(self, prompt: persona.Prompt) -> Turn:
        turn = self._scripted_turn()
        return persona.reply(prompt) if turn is None else turn

    # The voice

    def _perform(self, turn: Iterator[Step], ms: float) -> None:
        """Carry out a turn after a while, unless the caller speaks before or meanwhile."""
        _cancel(self._direct)
        self._direct = self._steps(turn, ms)
        self._run(self._direct)

    def _steps(self, turn: Iterator[Step], ms: float) -> Steps:
        yield Pause(ms)
        has_spoken = False
        for step in turn:
            match step:
                case Say():
                    has_spoken = True
                    self._say(step.text, step.stall_at_ms)
                    if step.stall_at_ms is not None:
                        yield Pause(math.inf)
                case Wait():
                    yield Pause(self._voice.remaining_ms + step.ms)
                case Stall():
                    yield Pause(math.inf)
                case Call() | Fail() | Incomplete():
                    self._delegate((step, *turn), is_acknowledged=has_spoken)
                case Error() | Close() | Drop() | Hold() | Expire():
                    yield Pause(self._voice.remaining_ms)
                    yield step

    def _run(self, steps: Steps) -> None:
        """Run the steps to their next pause, or to their end."""
        for step in steps:
            if not isinstance(step, Pause):
                self.disturb(step)
                if self.is_over:
                    return
            elif step.ms < math.inf:
                self._timeline.after(step.ms, lambda: self._run(steps))
                return
            else:
                return

    def _say(self, text: str, at_most_ms: int | None = None) -> None:
        self._has_spoken = True
        self._voice.say(text, at_most_ms)

    def _utter(self, text: str) -> None:
        """Find words for what the model has come to know, when the caller lets it."""
        self._timeline.after(UTTERING_MS, lambda: self._say_or_keep(text))

    def _say_or_keep(self, text: str) -> None:
        if self._is_caller_speaking:
            self._kept.append(text)
        else:
            self._say(text)

    def _speak(self) -> None:
        was_playing = self._is_fixture_playing
        audio = self._voice.step()
        # A chunk of audio has neither an id nor a time.
        delta = base64.b64encode(audio).decode()
        self._send({"type": "session.output_audio.delta", "delta": delta})
        heard = b"\xff" * STEP_BYTES if was_playing else audio
        if fragment := self._model.hear(heard, self._clock_ms):
            self._emit(_delta("output", fragment))
        if was_playing and not self._voice.remaining_ms:
            self._is_fixture_playing = False
            self._answer({"event_id": self._fixture}, "session.output_audio.fixture.played")

    def _play_fixture(self, event: Event) -> None:
        self._expect_no_fixture()
        audio = decode_audio(event["audio"], "audio")
        if not audio or len(audio) % 2 or len(audio) > LONGEST_FIXTURE_MS * FIXTURE_BYTES_PER_MS:
            raise ClientError(
                "Invalid 'audio': expected 16-bit PCM at 24 kHz, at most 30 seconds.",
                code="invalid_audio",
                param="audio",
            )
        self._voice.stop()
        self._voice.play(speech.frames_of_pcm24(audio))
        self._is_fixture_playing = True
        self._fixture = event.get("event_id")
        self._answer(event, "session.output_audio.fixture.playing")

    def _expect_no_fixture(self) -> None:
        if self._is_fixture_playing:
            raise ClientError("An audio fixture is active.", code="audio_fixture_active")

    # What the client tells the model

    def _append(self, event: Event) -> None:
        """Take in a text; it is acknowledged on the session's clock."""
        self._expect_no_fixture()
        self._expect_delegation(event["delegation_id"])
        tokens = text_tokens(event["content"])
        if tokens > MOST_APPENDED_TOKENS:
            raise ClientError(
                f"Invalid 'content': too long. Expected at most {MOST_APPENDED_TOKENS} tokens, "
                f"but got {tokens} instead.",
                code="string_above_max_length",
                param="content",
            )
        self._timeline.after(ACK_MS, lambda: self._appended_to(event, tokens))

    def _expect_delegation(self, delegation_id: str | None) -> None:
        if delegation_id is not None and delegation_id not in self._delegations:
            raise ClientError(
                f"Invalid 'delegation_id': no client delegation '{delegation_id}'.",
                param="delegation_id",
            )

    def _appended_to(self, event: Event, tokens: int) -> None:
        self._appended += tokens
        at = {"start_ms": self._clock_ms, "end_ms": self._clock_ms}
        self._answer(event, f"{event['type']}ed", **at)
        content = event["content"]
        match event["type"]:
            case "session.commentary.append":
                self._acknowledge_soon(None)
                self._utter(content)
            case "session.thinking.append":
                self._acknowledge_soon(None)
            case _ if persona.is_order_to_speak(content):
                self._perform(self._obey(content), UTTERING_MS)

    def _obey(self, order: str) -> Iterator[Step]:
        """Yield the steps that follow an order to speak, which may cut into speech."""
        self._voice.stop()
        words = persona.ordered_words(order)
        if words is not None and self._script.greets:
            yield Say(words)
        else:
            yield from self._next_turn(persona.Prompt(is_first=not self._has_spoken))

    # Work for the backend

    @property
    def _responses(self) -> dict[str, Any] | None:
        """The configuration of the backend, or None if the client does the work."""
        responses: dict[str, Any] | None = self.settings["delegation"].get("responses")
        return responses

    def _delegate(self, turn: Turn, *, is_acknowledged: bool) -> None:
        self._task = self._new_id("item")
        target = self.settings["delegation"]["type"]
        delegation = {"id": self._task, "type": "delegation", "target": target}
        settings = self._responses
        if settings is None:
            self._delegations.add(self._task)
        else:
            delegation["response_id"] = self._new_id("resp")
        self._emit(
            {
                "type": "session.delegation.created",
                "offset_ms": self._clock_ms,
                "delegation": delegation,
            }
        )
        if not is_acknowledged:
            self._acknowledge_soon(self._task)
        if settings is not None:
            self._respond(turn, settings, delegation["response_id"], CALL_MS)

    def _acknowledge_soon(self, task: str | None) -> None:
        """Say "one moment" for a task after the configured delay; None cancels what is pending."""
        self._unacknowledged = task
        if task is not None:
            delay_ms = self.settings["delegation"].get("acknowledgement_delay_ms") or 0
            self._timeline.after(delay_ms, lambda: self._acknowledge(task))

    def _acknowledge(self, task: str) -> None:
        if self._unacknowledged == task and not self._is_caller_speaking:
            self._say(ACKNOWLEDGEMENT)

    def _respond(
        self, turn: Turn, settings: dict[str, Any], response_id: str, lead_ms: float
    ) -> None:
        self._run(self._work_on(turn, settings, response_id, lead_ms))

    def _work_on(
        self, turn: Turn, settings: dict[str, Any], response_id: str, lead_ms: float
    ) -> Steps:
        task = self._task
        created_at = self._began_at + self._clock_ms // 1000
        for output in self._backend.respond(turn, settings, response_id, created_at, lead_ms):
            match output:
                case dict():
                    self._emit({"type": "response.event", "delegation_id": task, "event": output})
                case Say():
                    self._acknowledge_soon(None)
                    self._utter(output.text)
                case _:
                    yield output
        if not self._backend.has_open_task:
            self._task = None
            if self._said:
                # The result comes first.
                self._think(UTTERING_MS + THINKING_MS)

    def _create_item(self, event: Event) -> None:
        self._expect_backend()
        self._backend.add(event["item"])

    def _create_response(self, _event: Event) -> None:
        settings = self._expect_backend()
        prompt = self._backend.continued(settings)
        turn = self._next_turn(prompt)
        self._respond(turn, settings, self._new_id("resp"), CONTINUE_MS)

    def _expect_backend(self) -> dict[str, Any]:
        if self._responses is None:
            raise ClientError(
                "This event requires Responses delegation.", code="invalid_delegation_type"
            )
        return self._responses

    # Out

    def _answer(self, event: Event, kind: str, **fields: Any) -> None:
        """Send what an event of the client brought about."""
        event_id = event.get("event_id")
        caused_by = {} if event_id is None else {"client_event_id": event_id}
        self._emit({"type": kind, **caused_by, **fields})


def _delta(side: str, fragment: Fragment) -> Event:
    return {
        "type": f"session.{side}_transcript.delta",
        "delta": fragment.text,
        "start_ms": fragment.start_ms,
        "end_ms": fragment.end_ms,
    }


def _cancel(steps: Steps) -> None:
    """End the steps where they are; a pause that is over finds nothing more to do."""
    if isinstance(steps, Generator):
        steps.close()


_HANDLERS = {
    "session.update": LiveSession._update,
    "session.input_audio.append": LiveSession._append_audio,
    "session.input_audio.mute": LiveSession._mute,
    "session.input_audio.unmute": LiveSession._unmute,
    "session.output_audio.fixture.play": LiveSession._play_fixture,
    "session.instructions.append": LiveSession._append,
    "session.thinking.append": LiveSession._append,
    "session.commentary.append": LiveSession._append,
    "response.item.create": LiveSession._create_item,
    "response.create": LiveSession._create_response,
    "session.close": LiveSession._close,
}
