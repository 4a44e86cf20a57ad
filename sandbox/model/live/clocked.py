"""A session whose clock is the caller's audio, and what all its parts need of it.

Two times matter. The session's own clock advances with the input audio; everything that the model
does happens on it, so without input there is no output. What happens to the connection happens in
the time that ``advance`` sets.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Generator, Iterator
from typing import Any

from sandbox.model import persona
from sandbox.model.base import Event, ModelSession
from sandbox.model.conversation import decode_audio
from sandbox.model.errors import ClientError
from sandbox.model.live.voice import STEP_BYTES, STEP_MS
from sandbox.model.response import Pause
from sandbox.model.script import Close, Disturbance, Drop, Script, Turn
from sandbox.model.timeline import Action, Timeline

# The clock may be this far ahead of real time, so that audio that waited for the start is heard.
AHEAD_MS = 1_000.0

Steps = Iterator[Pause | Disturbance]


class ClockedSession(ModelSession):
    """A session that has started once it has ``settings``; ``began_at`` is in Unix seconds."""

    def __init__(self, script: Script, number: int, began_at: int) -> None:
        super().__init__(script, number)
        self._began_at = began_at
        self.settings: dict[str, Any] = {}
        self.is_leaving = False  # refused or closing
        #: The session's time, in milliseconds of input audio.
        self.clock_ms = 0
        self._input = bytearray()
        self._connection = Timeline()
        self._now_ms = 0.0
        self._started_ms = 0.0

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
            self._take_step()

    def after(self, ms: float, action: Action) -> None:
        """Do something after a while on the session's own clock."""
        self._timeline.after(ms, action)

    def run(self, steps: Steps) -> None:
        """Run the steps to their next pause, or to their end."""
        for step in steps:
            if not isinstance(step, Pause):
                self.disturb(step)
                if self.is_over:
                    return
            elif step.ms < math.inf:
                self.after(step.ms, lambda: self.run(steps))
                return
            else:
                return

    @property
    def used_s(self) -> float:
        """The seconds that are billed so far."""
        return self.clock_ms / 1000

    @property
    def unix_s(self) -> int:
        """The session's time in Unix seconds."""
        return self._began_at + self.clock_ms // 1000

    @abstractmethod
    def _step(self, audio: bytes) -> None:
        """Do what a step of the session's clock brings; ``audio`` is the caller's."""

    def _start_clock(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._started_ms = self._now_ms

    def _append_audio(self, event: Event) -> None:
        try:
            self._input += decode_audio(event["audio"], "audio")
        except ClientError as error:
            raise ClientError(str(error), code="invalid_audio", param="audio") from None

    @property
    def _has_step(self) -> bool:
        is_running = bool(self.settings) and not self.is_leaving and not self.is_over
        return is_running and len(self._input) >= STEP_BYTES

    @property
    def _step_due_ms(self) -> float:
        return self._started_ms + self.clock_ms + STEP_MS - AHEAD_MS

    def _take_step(self) -> None:
        audio = bytes(self._input[:STEP_BYTES])
        del self._input[:STEP_BYTES]
        self.clock_ms += STEP_MS
        self._timeline.advance(self.clock_ms)
        if not (self.is_over or self.is_leaving):
            self._step(audio)

    def _after(self, ms: float, action: Action) -> None:
        # Before the session starts, its own clock stands still.
        (self._timeline if self.settings else self._connection).after(ms, action)

    def _end(self, how: Close | Drop) -> None:
        super()._end(how)
        self._connection.clear()

    # What the parts use

    @property
    def responses(self) -> dict[str, Any] | None:
        """The configuration of the backend, or None if the client does the work."""
        responses: dict[str, Any] | None = self.settings["delegation"].get("responses")
        return responses

    def next_turn(self, prompt: persona.Prompt) -> Turn:
        turn = self._scripted_turn()
        return persona.reply(prompt) if turn is None else turn

    def answer(self, event: Event, kind: str, **fields: Any) -> None:
        """Send what an event of the client brought about."""
        event_id = event.get("event_id")
        caused_by = {} if event_id is None else {"client_event_id": event_id}
        self.emit({"type": kind, **caused_by, **fields})


def cancel(steps: Steps) -> None:
    """End the steps where they are; a pause that is over finds nothing more to do."""
    if isinstance(steps, Generator):
        steps.close()
