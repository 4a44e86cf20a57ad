"""The audio that was sent to the caller, and how much of it they have heard.

Twilio accepts audio faster than it plays it, and returns a mark when it has played all audio before
the mark. We send a mark after every second of an item and at its end; between two marks, the clock
gives an estimate.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telephony.engine.spoken import GreetingAudio

BYTES_PER_MS = 8  # mu-law, 8 kHz, mono
MARK_EVERY_BYTES = 1000 * BYTES_PER_MS
# How late a mark may come back, beyond the time to play the audio: two networks add delay, and a
# phone may stall for a moment.
MARK_LATE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Mark:
    number: int
    item_id: str
    position: int  # in the item, in bytes
    total: int  # in all audio of the call, in bytes


@dataclass(frozen=True, slots=True)
class Unheard:
    """An item of which the caller heard only the first ``heard_ms`` of ``sent_ms``."""

    item_id: str
    heard_ms: int
    sent_ms: int

    @property
    def part(self) -> float:
        """The part that was heard, from 0 to 1."""
        return self.heard_ms / self.sent_ms if self.sent_ms else 0.0


class Playback:
    def __init__(self) -> None:
        self._item_id = ""  # the item that is being sent
        self._sent = 0  # bytes of it
        self._marked = 0  # bytes of it that a mark follows
        self._marks: deque[_Mark] = deque()
        self._number = 0
        self._dropped: set[str] = set()
        self._is_closed = False
        #: The audio that may be kept as a greeting; None for most calls, and once it is over.
        self.greeting_audio: GreetingAudio | None = None
        #: Bytes sent during the whole call. It grows as long as the model speaks.
        self.total = 0
        self._heard_total = 0
        self._told_at = 0.0  # when audio was last sent or a mark last came back
        # At _heard_at, the caller had heard _heard bytes of _heard_item.
        self._heard_item = ""
        self._heard = 0
        self._heard_at = 0.0

    @property
    def is_outstanding(self) -> bool:
        """Return True if the caller has not yet heard everything."""
        return bool(self._marks) or self._sent > self._marked

    @property
    def overdue_at(self) -> float:
        """The time by which the caller must have heard everything, even without marks."""
        unheard_s = (self.total - self._heard_total) / (BYTES_PER_MS * 1000)
        return self._told_at + unheard_s + MARK_LATE_S

    @property
    def room(self) -> int:
        """The bytes of the current item that may follow before ``sent`` must be called.

        At that point a mark is due, or the caller has heard everything and the clock restarts.
        """
        return self._marked + MARK_EVERY_BYTES - self._sent if self.is_outstanding else 0

    def takes(self, item_id: str) -> bool:
        """Return True if audio of an item may be sent: the caller did not interrupt it."""
        return not self._is_closed and item_id not in self._dropped

    def sent(self, item_id: str, size: int, now: float) -> str | None:
        """Count ``size`` bytes of the item's audio; return None if they must not be sent.

        Otherwise return the name of the mark to send after them, or "" for none.
        """
        mark = ""
        if item_id != self._item_id:
            if not self.takes(item_id):
                return None
            mark = self._begin(item_id, now)
        elif not self.is_outstanding:
            self._heard_item, self._heard, self._heard_at = item_id, self._sent, now
        self._count(size)
        self._told_at = now
        return mark if self.room > 0 else self._mark()

    def passed(self, size: int) -> None:
        """Count more bytes of the current item, fewer than ``room``."""
        self._count(size)

    def _count(self, size: int) -> None:
        self._sent += size
        self.total += size

    def _begin(self, item_id: str, now: float) -> str:
        """Begin another item; return the mark for the end of the last one if it has none."""
        mark = self.end(self._item_id) or ""
        if not self.is_outstanding:
            self._heard_item, self._heard, self._heard_at = item_id, 0, now
        self._item_id, self._sent, self._marked = item_id, 0, 0
        return mark

    def end(self, item_id: str) -> str | None:
        """End an item, all of whose audio was sent; return its final mark, if it needs one."""
        return self.end_all() if item_id == self._item_id else None

    def end_all(self) -> str | None:
        """End the current item, whichever it is; return its final mark, if it needs one."""
        return self._mark() if self._sent > self._marked else None

    def _mark(self) -> str:
        self._number += 1
        self._marked = self._sent
        self._marks.append(_Mark(self._number, self._item_id, self._sent, self.total))
        return str(self._number)

    def played(self, name: str, now: float) -> tuple[str, int] | None:
        """Process a mark that came back; ignore one that was cleared or is not ours.

        Return the mark's item, and how many milliseconds of it have been played now.
        """
        number = int(name) if name.isascii() and name.isdecimal() else 0
        if number > self._number:
            return None
        mark = None
        while self._marks and self._marks[0].number <= number:
            mark = self._marks.popleft()
            self._heard_item, self._heard, self._heard_at = mark.item_id, mark.position, now
            self._heard_total, self._told_at = mark.total, now
        if self._marks and self._marks[0].item_id != self._heard_item:
            self._heard_item, self._heard = self._marks[0].item_id, 0
        return (mark.item_id, mark.position // BYTES_PER_MS) if mark else None

    def give_up(self) -> None:
        """Assume that all audio was heard, since its marks are overdue."""
        self._marks.clear()
        self._marked, self._heard_total = self._sent, self.total

    def unheard(self, now: float) -> list[Unheard]:
        """Return the items that the caller has not heard to their end, oldest item first."""
        if not self.is_outstanding:
            return []
        sent = {mark.item_id: mark.position for mark in self._marks} | {self._item_id: self._sent}
        return [
            Unheard(item_id, self._heard_ms(item_id, now), size // BYTES_PER_MS)
            for item_id, size in sent.items()
        ]

    def clear(self, now: float) -> list[Unheard]:
        """Drop what was not heard; return how much of each item was, oldest item first.

        Later audio of these items must not be sent.
        """
        unheard = self.unheard(now)
        self._dropped.update(item.item_id for item in unheard)
        self._marks.clear()
        self._item_id, self._sent, self._marked = "", 0, 0
        self._heard_total = self.total
        return unheard

    def close(self, now: float) -> list[Unheard]:
        """Clear, and accept no more audio."""
        self._is_closed = True
        return self.clear(now)

    def _heard_ms(self, item_id: str, now: float) -> int:
        if item_id != self._heard_item:
            return 0
        elapsed = round((now - self._heard_at) * 1000) * BYTES_PER_MS
        # The next mark has not come back, so the caller cannot have heard more.
        limit = next((mark.position for mark in self._marks if mark.item_id == item_id), self._sent)
        return max(0, min(self._heard + elapsed, limit)) // BYTES_PER_MS
