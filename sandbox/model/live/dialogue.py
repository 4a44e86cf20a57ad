"""Who speaks when: the model hears the caller's turns, and takes its own."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sandbox import speech
from sandbox.model import persona
from sandbox.model.base import Event
from sandbox.model.hearing import InputBuffer, SpeechStarted, VadSettings
from sandbox.model.live.backend import functions
from sandbox.model.live.clocked import ClockedSession, Steps, cancel
from sandbox.model.live.delegation import Delegation
from sandbox.model.live.speaker import UTTERING_MS, Speaker
from sandbox.model.live.transcripts import Transcripts
from sandbox.model.live.voice import STEP_BYTES
from sandbox.model.response import THINKING_MS, Pause
from sandbox.model.script import (
    Call,
    Close,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Incomplete,
    Say,
    Stall,
    Step,
    Wait,
)


class Dialogue:
    def __init__(self, session: ClockedSession, speaker: Speaker, transcripts: Transcripts) -> None:
        self._session = session
        self._speaker = speaker
        self._transcripts = transcripts
        self._is_muted = False
        self._ear = InputBuffer()
        self._ear.vad = VadSettings()
        self._said: list[str] = []  # by the caller, since the model's last turn
        self._performance: Steps = iter(())
        self.heard_turns = 0
        self.delegation = Delegation(session, speaker, self._task_done)

    # The caller

    def mute(self, event: Event) -> None:
        self._is_muted = True
        self._session.answer(event, "session.input_audio.muted")

    def unmute(self, event: Event) -> None:
        self._is_muted = False
        self._session.answer(event, "session.input_audio.unmuted")

    def hear(self, audio: bytes) -> None:
        """Hear a step of the caller's audio."""
        if self._is_muted or self._speaker.is_playing_fixture:
            audio = b"\xff" * STEP_BYTES
        for detected in self._ear.append(audio):
            if isinstance(detected, SpeechStarted):
                cancel(self._performance)
                self._speaker.interrupt()
            else:
                self._caller_stopped()
        self._transcripts.hear_caller(audio, self.heard_turns)

    def _caller_stopped(self) -> None:
        self.heard_turns += 1
        self._said.append(speech.hear([self._ear.take()]))
        has_more_to_say = self._speaker.resume()
        if not self.delegation.has_open_task:
            self._think(THINKING_MS + (UTTERING_MS if has_more_to_say else 0))

    def _task_done(self) -> None:
        if self._said:
            # The result comes first.
            self._think(UTTERING_MS + THINKING_MS)

    # The model

    def obey(self, order: str) -> None:
        """Follow an order to speak, which may cut into speech."""
        self._perform(self._ordered(order), UTTERING_MS)

    def _think(self, ms: float) -> None:
        self._perform(self._reply(), ms)

    def _reply(self) -> Iterator[Step]:
        """Yield the steps that answer what the caller has said by the time of the first one."""
        said = " ".join(self._said)
        self._said.clear()
        responses = self._session.responses or {}
        yield from self._session.next_turn(
            persona.Prompt(
                instructions=self._session.settings["instructions"] or "",
                said=said,
                tools=functions(responses),
                tool_choice=responses.get("tool_choice") or "auto",
                is_first=not self._speaker.has_spoken,
            )
        )

    def _ordered(self, order: str) -> Iterator[Step]:
        self._speaker.stop()
        words = persona.ordered_words(order)
        if words is not None and self._session.script.greets:
            yield Say(words)
        else:
            is_first = not self._speaker.has_spoken
            yield from self._session.next_turn(persona.Prompt(is_first=is_first))

    def _perform(self, turn: Iterator[Step], ms: float) -> None:
        """Carry out a turn after a while, unless the caller speaks before or meanwhile."""
        cancel(self._performance)
        self._performance = self._steps(turn, ms)
        self._session.run(self._performance)

    def _steps(self, turn: Iterator[Step], ms: float) -> Steps:
        yield Pause(ms)
        has_spoken = False
        for step in turn:
            match step:
                case Say():
                    has_spoken = True
                    self._speaker.say(step.text, step.stall_at_ms)
                    if step.stall_at_ms is not None:
                        yield Pause(math.inf)
                case Wait():
                    yield Pause(self._speaker.remaining_ms + step.ms)
                case Stall():
                    yield Pause(math.inf)
                case Call() | Fail() | Incomplete():
                    self.delegation.begin((step, *turn), is_acknowledged=has_spoken)
                case Error() | Close() | Drop() | Hold() | Expire():
                    yield Pause(self._speaker.remaining_ms)
                    yield step
