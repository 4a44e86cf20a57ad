"""The events of a call, for everything that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sandbox.phone.clock import Clock


@dataclass(frozen=True, slots=True)
class Event:
    """An event; ``at`` is in seconds of call time since the call began, ``detail`` holds JSON
    types.
    """

    at: float
    kind: str
    detail: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.detail[name]


class Journal:
    def __init__(self, clock: Clock) -> None:
        self.events: list[Event] = []
        self.is_closed = False
        self._clock = clock
        self._news = asyncio.Event()

    def add(self, kind: str, **detail: Any) -> Event:
        event = Event(round(self._clock.now(), 3), kind, detail)
        self.events.append(event)
        self._wake()
        return event

    def close(self) -> None:
        """Close the journal: those that follow it come to an end."""
        self.is_closed = True
        self._wake()

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    async def follow(self) -> AsyncIterator[Event]:
        """Yield everything from the beginning, and new events, until the end."""
        seen = 0
        while True:
            news = self._news
            for event in self.events[seen:]:
                seen += 1
                yield event
            if seen == len(self.events):
                if self.is_closed:
                    return
                await news.wait()

    async def wait_for(self, kind: str, *, within: float = 10.0, **detail: Any) -> Event:
        """Return the first such event, past or future.

        :raises TimeoutError: after this many real seconds, or when the call ended without it; the
            message says what happened instead.
        """
        try:
            async with asyncio.timeout(within):
                async for event in self.follow():
                    if event.kind == kind and detail.items() <= event.detail.items():
                        return event
        except TimeoutError:
            pass
        happened = ", ".join(event.kind for event in self.events)
        raise TimeoutError(f"No {kind} {detail or ''} in this call. There was: {happened}.")

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
