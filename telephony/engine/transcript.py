"""The transcript of a call, in the order of the conversation.

Transcripts arrive late and out of order. The model's chain of items, in which each item names the
one before it, gives their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from telephony.engine.bounds import clipped
from telephony.engine.playback import Unheard

# Four hours of two people who speak without a break have some 240,000 characters, and with a turn
# every four seconds 3,600 lines.
MOST_CHARACTERS = 250_000
MOST_LINES = 4_000
_MOST_ITEMS = 2 * MOST_LINES  # including tool calls and their outputs


@dataclass(slots=True)
class Line:
    """One turn, which began ``at`` on the session's clock.

    ``heard`` is the part of it that the caller heard, from 0 to 1, if it was interrupted.
    """

    role: str
    at: float
    text: str = ""
    interrupted: bool = False
    heard: float = 1.0


class Transcript:
    def __init__(self) -> None:
        self._earlier: tuple[Line, ...] = ()  # from before the call moved; their order stays
        self._lines: dict[str, Line] = {}
        self._order: list[str] = []
        self._settled = 0  # how many of them another session of the model cannot move
        self._awaited: set[str] = set()
        self._room = MOST_CHARACTERS

    @property
    def is_full(self) -> bool:
        """Return True if no more text is stored."""
        return self._room <= 0 or len(self._earlier) + len(self._lines) >= MOST_LINES

    @property
    def is_complete(self) -> bool:
        """Return True if the text of every turn that began has arrived."""
        return not self._awaited

    @property
    def awaits_words(self) -> bool:
        """Return True if nothing is known yet of what the caller said last, or says."""
        for item_id, line in reversed(self._lines.items()):  # by when they began
            if line.role == "user":
                return item_id in self._awaited and not line.text
        return False

    def follow(self, lines: tuple[Line, ...]) -> None:
        """Continue a transcript that has these turns."""
        self._earlier = lines
        self._room -= sum(len(line.text) for line in lines)

    def begin(self, item_id: str, role: str, now: float) -> None:
        """Begin a turn; :meth:`place` sets its position."""
        if item_id not in self._lines and not self.is_full:
            self._lines[item_id] = Line(role, now)
            if item_id not in self._order:
                self._order.append(item_id)
            self._awaited.add(item_id)

    def is_settled(self, item_id: str) -> bool:
        """Return True if the item is of a session of the model that is over."""
        return item_id in self._order[: self._settled]

    def place(self, item_id: str, previous_item_id: str | None) -> None:
        """Put an item after another one; the chain includes items that are not speech."""
        if self.is_settled(item_id):
            return
        if item_id in self._order:
            self._order.remove(item_id)
        elif len(self._order) >= _MOST_ITEMS:
            return
        if previous_item_id is None:
            self._order.insert(self._settled, item_id)
        elif previous_item_id in self._order:
            after = self._order.index(previous_item_id) + 1
            self._order.insert(max(after, self._settled), item_id)
        else:
            self._order.append(item_id)

    def write(self, item_id: str, role: str, text: str, now: float) -> None:
        """Store the text of a turn, as much of it as fits."""
        self.write_so_far(item_id, role, text, now)
        self._awaited.discard(item_id)

    def write_so_far(self, item_id: str, role: str, text: str, now: float) -> None:
        """Store the text of a turn that goes on."""
        self.begin(item_id, role, now)
        if line := self._lines.get(item_id):
            self._room += len(line.text)
            line.text = clipped(text.strip(), self._room) if self._room > 0 else ""
            self._room -= len(line.text)

    def complete(self, item_id: str, role: str, text: str, now: float) -> None:
        """Store the text of a turn from its response, if the text has not yet arrived."""
        line = self._lines.get(item_id)
        if line is None or not line.text:
            self.write(item_id, role, text, now)

    def interrupt(self, unheard: Unheard) -> None:
        """Mark a turn that the caller did not hear to its end."""
        if line := self._lines.get(unheard.item_id):
            line.interrupted, line.heard = True, unheard.part

    def heard_until(self, unheard: Iterable[Unheard]) -> tuple[Line, ...]:
        """Return the turns as if the caller had interrupted now."""
        cut = {each.item_id: each.part for each in unheard}
        spoken = [
            replace(line, interrupted=True, heard=cut[item_id]) if item_id in cut else line
            for item_id in self._order
            if (line := self._lines.get(item_id))
        ]
        return self._earlier + tuple(line for line in spoken if line.text)

    def turn(self, item_id: str) -> Line | None:
        """Return the turn of an item; None if the item has no text."""
        line = self._lines.get(item_id)
        return line if line and line.text else None

    def settle(self) -> None:
        """Keep the turns as they are: nobody is left who would report their text or order."""
        self._awaited.clear()
        self._settled = len(self._order)

    def lines(self) -> tuple[Line, ...]:
        """Return the turns that have a text."""
        spoken = (self._lines.get(item_id) for item_id in self._order)
        return self._earlier + tuple(line for line in spoken if line and line.text)
