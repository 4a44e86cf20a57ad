"""What the parts of a session share: the clock, the timers, and what is to be done."""

from __future__ import annotations

from typing import Any

from telephony.engine.actions import Action, ToModel
from telephony.engine.codes import EventKind, OnErrorCode
from telephony.engine.model_writer import OWN_ITEM
from telephony.engine.timeline import Timeline
from telephony.engine.timers import Key, Timers


class ModelFailed(Exception):
    """There is no going on with the model. ``code`` and the message are for onError."""

    def __init__(self, code: OnErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Desk:
    def __init__(self, now: float) -> None:
        self.now = now
        self.actions: list[Action] = []
        self.timers = Timers()
        self.is_connected = False  # the model listens
        self._timeline = Timeline()
        self._own_items = 0

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def tell(self, event: dict[str, Any]) -> None:
        """Send the model an event, if it is there."""
        if self.is_connected:
            self.do(ToModel(event))

    def note(self, kind: EventKind, **detail: Any) -> None:
        if note := self._timeline.note(kind, detail):
            self.do(note)

    def own_item(self) -> str:
        """Return the id of another item of ours."""
        self._own_items += 1
        return f"{OWN_ITEM}{self._own_items}"

    def alarm(self, key: Key, seconds: float) -> None:
        self.timers.set(key, self.now + seconds)

    def ms_since(self, moment: float) -> int:
        return round((self.now - moment) * 1000)
