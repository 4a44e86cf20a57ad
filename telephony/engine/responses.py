"""The queue of responses to request from the model: one at a time.

The model responds to speech by itself. We request a response only to what it does not respond to:
the greeting, results of tools, pressed keys. A request that is refused, or that the model does not
react to, returns to the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

from telephony.engine.commands import OWN_ITEM
from telephony.engine.recent_ids import RecentIds

HOLD_S = 2.0  # after the caller's speech, for the model to begin its own response
# A response whose id the model did not report.
UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Request:
    """A response to request: plain, with its own ``instructions``, or certainly ``aloud``.

    One that is ``owed`` is the model's own response to the caller's speech, which did not come: any
    other response takes its place.
    """

    instructions: str = ""
    aloud: bool = False
    owed: bool = False


PLAIN = Request()
OWED = Request(owed=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was sent; an error about it names its ``id``."""

    id: str
    request: Request


class ResponseQueue:
    def __init__(self) -> None:
        self.active = ""  # the id of the response in progress
        self.aside = ""  # of what a voice says meanwhile by itself
        self.asked: Asked | None = None  # sent, and not yet started
        self.held_until: float | None = None
        self._wanted: list[Request] = []
        self._count = 0
        self._last: Request | None = None  # the last one that was sent
        self._late: Request | None = None  # overdue, but may still begin
        # Requests of the active response and of the one that ended last; None if not requested.
        self._current: Request | None = None
        self.ended: Request | None = None
        self._begun = RecentIds()
        self._done = RecentIds()
        self._unseen: set[str] = set()  # items that we sent, until the model adds them
        self._not_before = 0.0

    @property
    def is_busy(self) -> bool:
        """Return True if a response is in progress, requested or queued."""
        return bool(self.is_active or self._wanted or self.asked is not None)

    @property
    def is_active(self) -> bool:
        return bool(self.active or self.aside)

    def want(self, request: Request = PLAIN) -> None:
        """Queue a response; one plain request covers any number of them."""
        if request != PLAIN or PLAIN not in self._wanted:
            self._wanted.append(request)

    def take(self, now: float, *, speaking: bool) -> Asked | None:
        """Return the request to send now, or None.

        Nothing is requested while the caller speaks, nor until the model has begun its response to
        that; ``held_until`` is when to try again.
        """
        self.held_until = None
        if not self._wanted or self.is_active or self.asked is not None or speaking:
            return None
        if now < self._not_before:
            self.held_until = self._not_before
            return None
        self._count += 1
        self._last = self._wanted.pop(0)
        self.asked = Asked(f"{OWN_ITEM}response_{self._count}", self._last)
        return self.asked

    def speech_stopped(self, now: float) -> None:
        self.hold_until(now + HOLD_S)

    def hold_until(self, moment: float) -> None:
        """Request nothing before then, unless the model begins a response by itself."""
        self._not_before = max(self._not_before, moment)

    def item_sent(self, item_id: str) -> None:
        self._unseen.add(item_id)

    def item_added(self, item_id: str) -> None:
        self._unseen.discard(item_id)

    def started(self, response_id: str, *, is_aside: bool = False) -> bool:
        """Record the beginning of a response; return False if it has ended, or begun otherwise.

        A response that the model began by itself considers all items that the model has added. What
        a voice says aside considers none of them: its backend has yet to respond.
        """
        other = self.active if is_aside else self.aside
        if response_id in self._done or (response_id and response_id == other):
            return False
        self._begun.add(response_id)
        self._not_before = 0.0
        if is_aside:
            self.aside = response_id or UNKNOWN
            self._answered()
            return True
        self._current = self._asked_for()
        self.active = response_id or UNKNOWN
        self.asked = None
        return True

    def _asked_for(self) -> Request | None:
        """Return the request of the response that begins, and remove it from the queue."""
        if self.asked is not None:
            return self.asked.request
        if self._late is not None and self._late in self._wanted:
            self._wanted.remove(self._late)
            return self._late
        self._answered()
        if not self._unseen and PLAIN in self._wanted:
            self._wanted.remove(PLAIN)
            return PLAIN
        return None

    def _answered(self) -> None:
        """The model responds to the caller's speech by itself after all."""
        if OWED in self._wanted:
            self._wanted.remove(OWED)

    def overdue(self) -> None:
        """Queue the request again, since the model did not react; it may still begin late."""
        if self.asked is not None:
            self._late = self.asked.request
            self.refused()

    def refused(self) -> None:
        """Queue the request again, since it did not become a response."""
        if self.asked is not None:
            self._want_first(self.asked.request)
            self.asked = None

    def refused_as_active(self) -> None:
        """Queue the last request again: it met another response, perhaps mistaken for its own."""
        if self._last not in (None, OWED) and self._late is None:
            self._want_first(self._last)
        self.asked = self._last = self._late = self._current = None
        self.active = self.active or UNKNOWN

    def has_begun(self, response_id: str) -> bool:
        """Return True if the model has reported the beginning of a response."""
        return response_id in self._begun if response_id else bool(self.active)

    def done(self, response_id: str) -> bool:
        """Record the end of a response; return False if its end is already known."""
        if response_id and not self._done.add(response_id):
            return False
        self.ended = None
        if self.aside == (response_id or UNKNOWN):
            self.aside = ""
            return True
        self._late = None
        if self.active:
            if response_id in (self.active, "") or self.active == UNKNOWN:
                self._over()
        elif self.asked is not None and response_id not in self._begun:
            # Its beginning was not reported.
            self.ended, self.asked = self.asked.request, None
        return True

    def failed(self) -> None:
        """Queue the request of the response that ended last again, since it failed."""
        self._want_first(self.ended or PLAIN)

    def lost(self) -> None:
        """End what is active; later events belong to another response."""
        self.aside = ""
        self._over()

    def _over(self) -> None:
        self.ended, self._current = self._current, None
        self.active, self._last = "", None

    def _want_first(self, request: Request) -> None:
        if request != PLAIN or PLAIN not in self._wanted:
            self._wanted.insert(0, request)
