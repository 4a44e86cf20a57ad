"""The timers of a call: which there are, and when each of them rings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Timer(Enum):
    """A deadline that a call has once, in the session or in what it asks the model for."""

    STARTUP = auto()  # the model accepts its configuration
    CONFIGURE = auto()  # send a refused configuration again
    LENGTH = auto()  # the call reaches its longest duration
    IDLE = auto()  # somebody says or does something
    GOODBYE = auto()  # the caller has heard the goodbye
    DIGITS = auto()  # a row of keys is complete
    HEARD = auto()  # the marks of what was played come back
    SPEECH = auto()  # the end of the caller's speech is reported
    ASKED = auto()  # a response that was asked for begins
    ANSWER = auto()  # the model begins to answer the caller's speech by itself
    ACTIVE = auto()  # a response goes on or ends
    RESPONSE = auto()  # ask for the next response
    TRANSCRIPT = auto()  # the last transcripts come, after the call


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
        """Forget all timers, except those of the type ``but``."""
        self._at = {key: at for key, at in self._at.items() if but and isinstance(key, but)}

    def next(self) -> float | None:
        """Return the earliest point in time."""
        return min(self._at.values(), default=None)

    def due(self, now: float) -> list[Key]:
        """Return the timers whose time has come, earliest first, and forget them."""
        keys = sorted((key for key, at in self._at.items() if at <= now), key=self._at.__getitem__)
        for key in keys:
            del self._at[key]
        return keys
