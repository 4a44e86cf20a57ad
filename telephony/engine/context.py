"""The state that all parts of a session share: clock, timers, timeline, pending actions."""

from __future__ import annotations

from typing import Any

from telephony.engine.actions import Action, ToModel
from telephony.engine.codes import EventKind, OnErrorCode
from telephony.engine.commands import OWN_ITEM, Command
from telephony.engine.timeline import Timeline
from telephony.engine.timers import Key, Timers


class ModelFailed(Exception):
    """An unrecoverable error of the model. ``code`` and the message are for onError."""

    def __init__(self, code: OnErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class CallContext:
    def __init__(self, now: float) -> None:
        self.now = now
        self.actions: list[Action] = []
        self.timers = Timers()
        self.is_connected = False  # the model accepts events
        self.timeline = Timeline()
        self._own_items = 0

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def taken(self) -> list[Action]:
        """Return the pending actions, which the caller of the session carries out."""
        actions, self.actions = self.actions, []
        return actions

    def tell(self, command: Command) -> None:
        """Send the model a command, if it is connected."""
        if self.is_connected:
            self.do(ToModel(command))

    def note(self, kind: EventKind, **detail: Any) -> None:
        if note := self.timeline.note(kind, detail):
            self.do(note)

    def own_item(self) -> str:
        """Return the id of a new item that we create."""
        self._own_items += 1
        return f"{OWN_ITEM}{self._own_items}"

    def start_timer(self, key: Key, seconds: float) -> None:
        self.timers.set(key, self.now + seconds)

    def ms_since(self, moment: float) -> int:
        return round((self.now - moment) * 1000)
