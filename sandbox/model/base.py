"""What a session has in common in every protocol: its script, its disturbances, what it sends."""

from __future__ import annotations

import copy
import itertools
import json
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from sandbox.model.errors import ClientError, ErrorBody, error_body
from sandbox.model.script import (
    Close,
    Disturbance,
    Drop,
    Error,
    Expire,
    Hold,
    Script,
    ScriptError,
    Turn,
    script_in,
)
from sandbox.model.timeline import Action, Timeline

OPEN = "open"

Event = dict[str, Any]


class ModelSession(ABC):
    """The model's side of a connection, without a socket or a clock.

    ``receive`` handles a client event as text, ``advance`` sets the time in milliseconds since the
    session began, and ``take`` returns what to send and what to do to the connection.
    """

    def __init__(self, script: Script, number: int) -> None:
        self.script = script
        self._number = number
        self._ids = itertools.count(1)
        self._outbox: list[Event | Close | Drop] = []
        self._is_holding = False
        self._seen: Counter[str] = Counter()
        self._timeline = Timeline()
        self._prompt_turns: list[Turn] | None = None
        self._turns_taken = 0
        self.is_over = False

    # From outside

    @property
    def next_ms(self) -> float | None:
        """The time at which :meth:`advance` has work; None if nothing is in progress."""
        return self._timeline.next_ms

    def advance(self, now_ms: float) -> None:
        """Run what is due by then; infinity is for a session that takes no time."""
        self._timeline.advance(now_ms)

    def open(self) -> None:
        """Begin, before anything is received."""
        if not self._disturbed(OPEN):
            self._opened()

    def receive(self, text: str) -> None:
        """Handle a client event."""
        if self.is_over:
            return
        event_id = None
        try:
            event = _parse(text)
            event_id = event.get("event_id")
            if not self._disturbed(str(event.get("type"))):
                self._handle(event)
        except ClientError as error:
            self._refuse(error.body, event_id if isinstance(event_id, str) else None)

    def take(self) -> list[Event | Close | Drop]:
        """Return, in order, what has accumulated since the last call."""
        if self._is_holding and not self.is_over:
            return []
        outbox, self._outbox = self._outbox, []
        return outbox

    def disturb(self, disturbance: Disturbance) -> None:
        """Apply a disturbance now."""
        match disturbance:
            case Error():
                self.fail(error_body(disturbance.code, disturbance.message))
            case Expire():
                self.expire()
            case Hold():
                self._is_holding = True
                self._after(disturbance.ms, self._release)
            case _:
                self._end(disturbance)

    @abstractmethod
    def fail(self, body: ErrorBody) -> None:
        """Send a server error; close the socket if the error requires that."""

    @abstractmethod
    def expire(self) -> None:
        """End the session because its time is up."""

    # Of each protocol

    @abstractmethod
    def _opened(self) -> None: ...

    @abstractmethod
    def _handle(self, event: Event) -> None:
        """Handle a client event; raise :class:`ClientError` if it is invalid."""

    @abstractmethod
    def _refuse(self, body: ErrorBody, event_id: str | None) -> None:
        """Send an error, which the client event with this id caused."""

    # The script

    def _read_script(self, prompt: str, param: str) -> None:
        """Take the turns from the prompt's script; the same script again does not begin anew."""
        try:
            turns = script_in(prompt)
        except ScriptError as error:
            raise ClientError(str(error), param=param) from None
        if turns != self._prompt_turns:
            self._prompt_turns = turns
            self._turns_taken = 0

    def _scripted_turn(self) -> Turn | None:
        number = self._turns_taken
        turns = self._prompt_turns
        if turns is None:
            turn = self.script.turn(number)
        else:
            turn = turns[number] if number < len(turns) else None
        self._turns_taken += turn is not None
        return turn

    def _disturbed(self, event: str) -> bool:
        """Apply the script's disturbance of this event; return True if it replaces the event."""
        self._seen[event] += 1
        swallowed = False
        for when in self.script.when:
            if when.event == event and when.nth == self._seen[event]:
                swallowed = swallowed or when.instead
                for disturbance in when.disturbances:
                    self.disturb(disturbance)
        return swallowed or self.is_over

    # Out

    def _after(self, ms: float, action: Action) -> None:
        """Do something to the connection after a while."""
        self._timeline.after(ms, action)

    def emit(self, event: Event) -> None:
        self.send({"type": event["type"], "event_id": self.new_id("event"), **event})

    def send(self, event: Event) -> None:
        if not self.is_over:
            times = 2 if event["type"] in self.script.twice else 1
            self._outbox.extend(copy.deepcopy(event) for _ in range(times))

    def _release(self) -> None:
        self._is_holding = False

    def _end(self, how: Close | Drop) -> None:
        if not self.is_over:
            self.is_over = True
            self._timeline.clear()
            self._outbox.append(how)

    def new_id(self, kind: str) -> str:
        return f"{kind}_{self._number:04x}{next(self._ids):08x}"


def _parse(text: str) -> Event:
    try:
        event = json.loads(text)
    except ValueError as error:
        raise ClientError(
            f"Invalid event: failed to parse JSON value. {error}.", code="invalid_json"
        ) from None
    if not isinstance(event, dict):
        raise ClientError("Invalid event: expected a JSON object.", code="invalid_event")
    return event
