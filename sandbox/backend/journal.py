"""The latest callbacks to the backend and its responses, without credentials."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.backend.signatures import Signatures
from sandbox.bell import Bell

SIZE = 200
SECRETS = frozenset({"twilioAuthToken", "openaiApiKey", "secret"})
MASK = "••••••"


@dataclass(frozen=True, slots=True)
class Entry:
    """One callback. ``answer`` is None if the response has no body."""

    number: int
    at: datetime
    callback: str
    query: dict[str, str]
    signatures: Signatures
    body: Any
    status: int
    answer: Any

    def wire(self) -> dict[str, Any]:
        at = self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {**asdict(self), "at": at}


class Journal:
    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._entries: deque[Entry] = deque(maxlen=SIZE)
        self._numbers = itertools.count(1)
        self._bell = Bell()
        self._now = now
        self._closed = False

    def write(
        self,
        callback: str,
        query: dict[str, str],
        signatures: Signatures,
        body: Any,
        status: int,
        answer: Any,
    ) -> None:
        entry = Entry(
            next(self._numbers),
            self._now(),
            callback,
            query,
            signatures,
            masked(body),
            status,
            masked(answer),
        )
        self._entries.append(entry)
        self._bell.ring()

    def after(self, number: int) -> list[Entry]:
        """Return the callbacks after this number, oldest first."""
        return [entry for entry in self._entries if entry.number > number]

    async def wait_after(self, number: int, seconds: float) -> list[Entry]:
        """Return them as soon as there are any, or an empty list after this many seconds."""
        with suppress(TimeoutError):
            await self._bell.until(lambda: self._closed or self.after(number), seconds)
        return self.after(number)

    def close(self) -> None:
        """Release everything that waits."""
        self._closed = True
        self._bell.ring()


def masked(value: Any) -> Any:
    """Return JSON types with every credential masked."""
    match value:
        case dict():
            return {
                name: MASK if name in SECRETS else masked(entry) for name, entry in value.items()
            }
        case list():
            return [masked(entry) for entry in value]
    return value
