"""The timers of a call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Timer(Enum):
    """A timer that a call has at most once, with the event that it waits for or triggers."""

    STARTUP = auto()  # the model accepts its configuration
    CONFIGURE = auto()  # send a refused configuration again
    LENGTH = auto()  # the call reaches its maximum duration
    IDLE = auto()  # someone speaks or does something
    GOODBYE = auto()  # the caller has heard the goodbye
    VOICE = auto()  # the voice begins to say what its backend has written
    DIGITS = auto()  # a sequence of keys is complete
    HEARD = auto()  # the marks of the audio that was sent come back
    SPEECH = auto()  # the end of the caller's speech is reported
    ASKED = auto()  # a requested response begins
    ANSWER = auto()  # the model begins to answer the caller's speech by itself
    ACTIVE = auto()  # a response continues or ends
    RESPONSE = auto()  # request the next response
    RENEWAL = auto()  # the session of the model becomes too old
    TRANSCRIPT = auto()  # the last transcripts arrive, after the call


@dataclass(frozen=True, slots=True)
class ToolTimer:
    """The deadline of one tool call."""

    call_id: str


Key = Timer | ToolTimer


class Timers:
    def __init__(self) -> None:
        self._at: dict[Key, float] = {}

    def set(self, key: Key, at: float) -> None:
        self._at[key] = at

    def clear(self, key: Key) -> None:
        self._at.pop(key, None)

    def clear_all(self, *, but: type[ToolTimer] | None = None) -> None:
        """Clear all timers except those of the type ``but``."""
        self._at = {key: at for key, at in self._at.items() if but and isinstance(key, but)}

    def at(self, key: Key, otherwise: float) -> float:
        """Return the time of a timer."""
        return self._at.get(key, otherwise)

    def is_set(self, key: Key) -> bool:
        return key in self._at

    def next(self) -> float | None:
        """Return the time of the earliest timer; None without timers."""
        return min(self._at.values(), default=None)

    def due(self, now: float) -> list[Key]:
        """Return the timers that are due, earliest first, and clear them."""
        keys = sorted((key for key, at in self._at.items() if at <= now), key=self._at.__getitem__)
        for key in keys:
            del self._at[key]
        return keys
