"""One response at a time: when the model may be asked for the next one.

The model answers the caller's speech by itself. We ask only for what it does not know of: the
greeting, results of tools, keys that were pressed. What is asked for and refused, or never heard of
again, is still wanted: it is asked for once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from telephony.engine.seen import Seen

HOLD_S = 2.0  # after the caller's speech, for the model to begin its own answer
# A response that the model speaks of without having said which.
UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Request:
    """A response to ask for: as it comes, with ``instructions`` of its own, or surely ``aloud``.

    One that the model ``owes`` is its own answer to what the caller said: any other will do.
    """

    instructions: str = ""
    aloud: bool = False
    owed: bool = False


PLAIN = Request()
OWED = Request(owed=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was sent; an error about it names its ``event_id``."""

    event_id: str
    request: Request


class ResponseQueue:
    def __init__(self) -> None:
        self.active = ""  # the id of the response that is under way
        self.asked: Asked | None = None  # what was sent and has not started
        self.held_until: float | None = None
        self._wanted: list[Request] = []
        self._count = 0
        self._last: Request | None = None  # what was asked for last
        self._late: Request | None = None  # what was given up, and may begin after all
        # What the active response was asked for, and the one that ended last; None: nobody asked.
        self._current: Request | None = None
        self.ended: Request | None = None
        self._begun = Seen()
        self._done = Seen()
        self._unseen: set[str] = set()  # items that we sent and the model has not yet added
        self._not_before = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a response is under way, asked for or wanted."""
        return bool(self.active or self._wanted or self.asked is not None)

    def want(self, request: Request = PLAIN) -> None:
        """Ask for a response; any number of plain ones are one."""
        if request != PLAIN or PLAIN not in self._wanted:
            self._wanted.append(request)

    def take(self, now: float, *, speaking: bool) -> Asked | None:
        """Return what is to be asked for now, or None.

        While the caller speaks, and until the model has begun its answer to that, nothing is asked
        for; ``held_until`` says when to try again.
        """
        self.held_until = None
        if not self._wanted or self.active or self.asked is not None or speaking:
            return None
        if now < self._not_before:
            self.held_until = self._not_before
            return None
        self._count += 1
        self._last = self._wanted.pop(0)
        self.asked = Asked(f"sh_response_{self._count}", self._last)
        return self.asked

    def speech_stopped(self, now: float) -> None:
        self.hold_until(now + HOLD_S)

    def hold_until(self, moment: float) -> None:
        """Ask for nothing before then, unless the model begins a response by itself."""
        self._not_before = max(self._not_before, moment)

    def item_sent(self, item_id: str) -> None:
        self._unseen.add(item_id)

    def item_added(self, item_id: str) -> None:
        self._unseen.discard(item_id)

    def started(self, response_id: str) -> bool:
        """A response began; False if it has ended before.

        One that the model began by itself knows all items that it has added.
        """
        if response_id in self._done:
            return False
        self._current = self._asked_for()
        self._begun.add(response_id)
        self.active = response_id or UNKNOWN
        self.asked = None
        self._not_before = 0.0
        return True

    def _asked_for(self) -> Request | None:
        """Return what a response that begins was asked for; it is wanted no longer."""
        if self.asked is not None:
            return self.asked.request
        if self._late is not None and self._late in self._wanted:
            self._wanted.remove(self._late)
            return self._late
        if OWED in self._wanted:
            self._wanted.remove(OWED)
        if not self._unseen and PLAIN in self._wanted:
            self._wanted.remove(PLAIN)
            return PLAIN
        return None

    def overdue(self) -> None:
        """Nothing is heard of what was asked for: it is wanted again, unless it begins late."""
        if self.asked is not None:
            self._late = self.asked.request
            self.refused()

    def refused(self) -> None:
        """What was asked for last did not become a response: it is wanted again."""
        if self.asked is not None:
            self._want_first(self.asked.request)
            self.asked = None

    def refused_as_active(self) -> None:
        """What was asked for last met another response, which may have been taken for it."""
        if self._last not in (None, OWED) and self._late is None:
            self._want_first(self._last)
        self.asked = self._last = self._late = self._current = None
        self.active = self.active or UNKNOWN

    def done(self, response_id: str) -> bool:
        """A response has ended; False if we have been told of its end before."""
        if response_id and not self._done.add(response_id):
            return False
        self.ended = self._late = None
        if self.active:
            if response_id in (self.active, "") or self.active == UNKNOWN:
                self.lost()
        elif self.asked is not None and response_id not in self._begun:
            # Nothing told us of its beginning.
            self.ended, self.asked = self.asked.request, None
        return True

    def failed(self) -> None:
        """The response that ended last came to nothing: what it was to say is wanted again."""
        self._want_first(self.ended or PLAIN)

    def lost(self) -> None:
        """The response that is under way is over; what more is heard of it is another's."""
        self.ended, self._current = self._current, None
        self.active, self._last = "", None

    def _want_first(self, request: Request) -> None:
        if request != PLAIN or PLAIN not in self._wanted:
            self._wanted.insert(0, request)
