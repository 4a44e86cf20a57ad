"""Keys that the caller presses: a row of them is one turn of the conversation."""

from __future__ import annotations

from telephony.engine.codes import EventKind
from telephony.engine.desk import Desk
from telephony.engine.timers import Timer

DIGITS_S = 1.5  # of silence end a row; so does "#"
MOST_DIGITS = 100  # in a row


class Keypad:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._digits = ""

    @property
    def is_used(self) -> bool:
        """Return True if a row has begun."""
        return bool(self._digits)

    def press(self, digit: str) -> bool:
        """Add a key to the row; return whether the row is complete with it."""
        self._digits += digit[:1]
        self._desk.note(EventKind.DIGIT_PRESSED)
        self._desk.alarm(Timer.DIGITS, DIGITS_S)
        return digit == "#" or len(self._digits) >= MOST_DIGITS

    def take(self) -> str:
        """Return the row as the model is told of it, and begin the next one."""
        self._desk.timers.clear(Timer.DIGITS)
        digits, self._digits = self._digits, ""
        return f"[The caller pressed on the keypad: {digits}]"
