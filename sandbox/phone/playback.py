"""The audio that waits to be played to the caller, and the marks in it."""

from __future__ import annotations

from collections import deque

from sandbox.speech import FRAME_BYTES, SILENCE


class Playback:
    """Plays one frame at a time. A mark is due when the audio queued before it has been played."""

    def __init__(self) -> None:
        self._queue: deque[bytes | str] = deque()
        self._due: list[str] = []

    @property
    def is_empty(self) -> bool:
        return not self._queue and not self._due

    @property
    def queued_bytes(self) -> int:
        return sum(len(item) for item in self._queue if isinstance(item, bytes))

    def add(self, audio: bytes) -> None:
        """Queue mu-law audio of any length."""
        if audio:
            self._queue.append(audio)

    def mark(self, name: str) -> None:
        self._queue.append(name)

    def tick(self) -> tuple[bytes, list[str]]:
        """Return the frame that plays for the next 20 ms, and the marks passed before it."""
        passed, self._due = self._due, []
        frame = b""
        while self._queue and len(frame) < FRAME_BYTES:
            item = self._queue.popleft()
            if isinstance(item, str):
                (self._due if frame else passed).append(item)
                continue
            room = FRAME_BYTES - len(frame)
            frame += item[:room]
            if item[room:]:
                self._queue.appendleft(item[room:])
        return frame.ljust(FRAME_BYTES, SILENCE[:1]), passed

    def clear(self) -> list[str]:
        """Drop the audio that was not played yet; return its marks, which are due now."""
        passed = [*self._due, *(item for item in self._queue if isinstance(item, str))]
        self._queue.clear()
        self._due.clear()
        return passed
