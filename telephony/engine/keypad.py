"""Keys that the caller presses: a sequence of them is one turn of the conversation."""

from __future__ import annotations

from telephony.engine.codes import EventKind
from telephony.engine.context import CallContext
from telephony.engine.timers import Timer

DIGITS_S = 1.5  # without a key end a sequence; so does "#"
MOST_DIGITS = 100  # in a sequence


class Keypad:
    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._digits = ""

    @property
    def is_used(self) -> bool:
        """Return True if a sequence has begun."""
        return bool(self._digits)

    @property
    def digits(self) -> str:
        """The sequence so far."""
        return self._digits

    def follow(self, digits: str) -> None:
        """Continue a sequence."""
        self._digits = digits
        if digits:
            self._context.start_timer(Timer.DIGITS, DIGITS_S)

    def press(self, digit: str) -> bool:
        """Add a key to the sequence; return True if it completes the sequence."""
        self._digits += digit[:1]
        self._context.note(EventKind.DIGIT_PRESSED)
        self._context.start_timer(Timer.DIGITS, DIGITS_S)
        return digit == "#" or len(self._digits) >= MOST_DIGITS

    def take(self) -> str:
        """Return the sequence as a sentence for the model, and begin the next one."""
        self._context.timers.clear(Timer.DIGITS)
        digits, self._digits = self._digits, ""
        return f"[The caller pressed on the keypad: {digits}]"
