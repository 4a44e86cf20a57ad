"""The line between a person and the agent: audio both ways, 50 frames a second."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from sandbox.phone.clock import Clock
from sandbox.phone.journal import Journal
from sandbox.phone.keypad import Keypad
from sandbox.phone.playback import Playback
from sandbox.speech import FRAME_BYTES, FRAME_MS, SILENCE, Ear, frames, is_silence, normal

_TICK = FRAME_MS / 1000
# How long the agent must be silent before its words are recorded.
_UTTERANCE_GAP_MS = 400


class LineClosed(Exception):
    """The call has ended: the person cannot be reached. The argument is its events."""


class FarEnd(Protocol):
    """A media stream, which receives the person's audio frame by frame."""

    def take(self, frame: bytes, marks: list[str]) -> None:
        """Receive 20 ms of the person's audio, and the marks that were passed until now."""


class Line:
    """Ticks at absolute deadlines from the answer to the end of the call, so it never drifts.

    ``silent_ms`` and ``mute_ms`` are how long the agent and the person have been silent, and
    ``spoken_ms`` how long the agent has been speaking.
    """

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self.playback = Playback()
        self.far_end: FarEnd | None = None
        self.keys: deque[str] = deque()
        self.caller_track: list[bytes] = []
        self.agent_track: list[bytes] = []
        self.silent_ms = 0
        self.spoken_ms = 0
        self.mute_ms = 0
        self.said = ""
        self._clock = clock
        self._journal = journal
        self._speech: deque[bytes] = deque()
        self._ear = Ear()
        self._keypad = Keypad()
        self._heard = ""
        self._utterance = ""
        self._is_closed = False
        self._opened = asyncio.Event()
        self._ticked = asyncio.Event()

    @property
    def heard(self) -> str:
        """Everything that the person has understood so far."""
        return normal(self._heard + self._utterance)

    @property
    def is_speaking(self) -> bool:
        """True while the person has something left to say."""
        return bool(self._speech)

    def speak(self, text: str) -> None:
        """Have the person say the text after their current words."""
        self._speech.extend(frames(text))
        self.said = normal(f"{self.said} {text}")

    def hush(self) -> None:
        """Have the person break off what they are saying."""
        self._speech.clear()

    async def run(self) -> None:
        """Tick until closed."""
        self._opened.set()
        deadline = self._clock.now()
        while not self._is_closed:
            self._tick()
            deadline += _TICK
            await self._clock.sleep_until(deadline)

    def close(self) -> None:
        """End the line, and tell everything that waits on it."""
        if self._is_closed:
            return
        self._is_closed = True
        self._opened.set()
        self.drop_playback()
        self._wake()

    async def until(self, holds: Callable[[], bool], *, within: float | None = None) -> bool:
        """Return True at the first tick at which it holds; False after ``within`` s of call time.

        Nothing happens, and no time passes, before the call is answered.

        :raises LineClosed: the call ended first.
        """
        await self._opened.wait()
        deadline = None if within is None else self._clock.now() + within
        while not holds():
            if self._is_closed:
                raise LineClosed(self._journal.events)
            if deadline is not None and self._clock.now() >= deadline:
                return False
            await self._ticked.wait()
        return True

    def drop_playback(self) -> tuple[int, list[str]]:
        """Stop playback; return how many milliseconds were dropped, and the marks in them."""
        dropped_ms = self.playback.queued_bytes * FRAME_MS // FRAME_BYTES
        marks = self.playback.clear()
        self._end_utterance(cut_off=dropped_ms > 0)
        return dropped_ms, marks

    def _end_utterance(self, *, cut_off: bool) -> None:
        """Record the agent's words since the last time."""
        self._utterance += self._ear.finish()
        text = normal(self._utterance)
        self._heard += self._utterance
        self._utterance = ""
        self._ear = Ear()
        if text:
            self._journal.add("heard", text=text, cut_off=cut_off)

    def _tick(self) -> None:
        self.mute_ms = 0 if self._speech else self.mute_ms + FRAME_MS
        spoken = self._speech.popleft() if self._speech else SILENCE
        frame, marks = self.playback.tick()
        self.caller_track.append(spoken)
        self.agent_track.append(frame)
        if self.far_end:
            self.far_end.take(spoken, marks)
        self._hear(frame)
        self._wake()

    def _hear(self, frame: bytes) -> None:
        self._utterance += self._ear.listen(frame)
        self._recognize_keys(frame)
        if is_silence(frame):
            self.silent_ms += FRAME_MS
            if self.silent_ms == _UTTERANCE_GAP_MS:
                self._end_utterance(cut_off=False)
        else:
            if self.silent_ms >= _UTTERANCE_GAP_MS:
                self.spoken_ms = 0
            self.silent_ms = 0
            self.spoken_ms += FRAME_MS

    def _recognize_keys(self, frame: bytes) -> None:
        """Look for tones only in sound that is not speech, since that is expensive."""
        if not (self._ear.is_puzzled or self._keypad.is_pressed):
            return
        if key := self._keypad.listen(frame):
            self._journal.add("key-tone", digit=key)

    def _wake(self) -> None:
        self._ticked.set()
        self._ticked = asyncio.Event()
