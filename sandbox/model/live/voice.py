"""What both sides say, in steps of the session's clock: the model's voice, and the transcripts.

Audio is mu-law at 8 kHz. The clock counts milliseconds of input audio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sandbox import speech

STEP_MS = 100
STEP_FRAMES = STEP_MS // speech.FRAME_MS
STEP_BYTES = STEP_FRAMES * speech.FRAME_BYTES
GRID_MS = 200


class Voice:
    """The model's continuous output: what it says, and silence."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()

    @property
    def remaining_ms(self) -> int:
        """How long it will go on speaking; 0 if it is silent."""
        return len(self._frames) * speech.FRAME_MS

    def say(self, text: str, at_most_ms: int | None = None) -> None:
        """Say the text after what is being said, and no more than the first ``at_most_ms``."""
        frames = speech.frames(text)
        self.play(frames if at_most_ms is None else frames[: at_most_ms // speech.FRAME_MS])

    def play(self, frames: Iterable[bytes]) -> None:
        """Play frames of 160 bytes after what is being said."""
        self._frames.extend(frames)

    def stop(self) -> None:
        self._frames.clear()

    def step(self) -> bytes:
        """Return the audio of the next step."""
        frames = [self._frames.popleft() for _ in range(min(STEP_FRAMES, len(self._frames)))]
        return b"".join(frames).ljust(STEP_BYTES, b"\xff")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Text that was said within the given milliseconds; the end is exclusive."""

    text: str
    start_ms: int
    end_ms: int


class Transcript:
    """What one side says, in fragments that are aligned to a grid of 200 ms."""

    def __init__(self) -> None:
        self._ear = speech.Ear()
        self._text = ""

    def hear(self, audio: bytes, end_ms: int) -> Fragment | None:
        """Hear one step, which ends at that time; return what was said up to a line of the grid."""
        self._text += self._ear.listen(audio)
        return None if end_ms % GRID_MS else self._fragment(end_ms)

    def finish(self, end_ms: int) -> Fragment | None:
        """Return what was said since the last line of the grid, when nothing more will be heard."""
        return self._fragment(end_ms + -end_ms % GRID_MS)

    def _fragment(self, end_ms: int) -> Fragment | None:
        text, self._text = self._text, ""
        return Fragment(text, end_ms - GRID_MS, end_ms) if text else None
