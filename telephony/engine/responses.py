"""One response at a time: when the model may be asked for the next one.

The model answers the caller's speech by itself. We ask only for what it does not know of: the
greeting, results of tools, keys that were pressed.
"""

from __future__ import annotations

HOLD_S = 2.0  # after the caller's speech, for the model to begin its own answer


class ResponseQueue:
    def __init__(self) -> None:
        self.active = ""  # the id of the response that is under way
        self.held_until: float | None = None
        self._wanted: list[str] = []  # instructions; "" is a plain response
        self._asked: str | None = None  # what was sent and has not started
        self._last = ""
        self._unseen: set[str] = set()  # items that we sent and the model has not yet added
        self._speech_ended_at: float | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a response is under way, asked for or wanted."""
        return bool(self.active or self._wanted or self._asked is not None)

    def want(self, instructions: str = "") -> None:
        """Ask for a response; any number of plain ones are one."""
        if instructions or "" not in self._wanted:
            self._wanted.append(instructions)

    def take(self, now: float, *, speaking: bool) -> str | None:
        """Return the instructions of the response to ask for now, or None.

        While the caller speaks, and until the model has begun its answer to that, nothing is asked
        for; ``held_until`` says when to try again.
        """
        self.held_until = None
        if not self._wanted or self.active or self._asked is not None or speaking:
            return None
        if self._speech_ended_at is not None and now < self._speech_ended_at + HOLD_S:
            self.held_until = self._speech_ended_at + HOLD_S
            return None
        self._asked = self._last = self._wanted.pop(0)
        return self._asked

    def speech_stopped(self, now: float) -> None:
        self._speech_ended_at = now

    def item_sent(self, item_id: str) -> None:
        self._unseen.add(item_id)

    def item_added(self, item_id: str) -> None:
        self._unseen.discard(item_id)

    def started(self, response_id: str) -> None:
        """A response began. One that the model began by itself knows all items it has added."""
        if self._asked is None and not self._unseen and "" in self._wanted:
            self._wanted.remove("")
        self.active = response_id
        self._asked = None
        self._speech_ended_at = None

    def refused(self) -> None:
        """What was asked for last came while a response was active: it is wanted again."""
        self._asked = None
        if self._last or "" not in self._wanted:
            self._wanted.insert(0, self._last)

    def done(self) -> None:
        self.active = ""
