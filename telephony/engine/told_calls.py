"""The model's tool calls as it made them, with what it was told: its memory in another session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from telephony.engine.bounds import LONGEST_NAME, clipped
from telephony.engine.events import FunctionCall

# Of arguments and results together. The oldest calls are forgotten.
MOST_CHARACTERS = 100_000
# Of one call's arguments, and of its result. Without it, one large result would take the place of
# everything else that the model remembers.
LONGEST = 8_000


@dataclass(slots=True)
class ToldCall:
    """A tool call that the model made ``at`` on the session's clock.

    ``arguments`` is JSON text as the model wrote it, or ``{}`` if that is too long. ``result`` is
    None until the model is told, and ends after ``LONGEST`` characters.
    """

    call_id: str
    name: str
    arguments: str = field(repr=False)
    at: float
    result: str | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        return len(self.arguments) + len(self.result or "")


class ToldCalls:
    def __init__(self) -> None:
        self._calls: dict[str, ToldCall] = {}
        self._size = 0

    def __iter__(self) -> Iterator[ToldCall]:
        return iter(self._calls.values())

    def made(self, call: FunctionCall, now: float) -> None:
        written = call.arguments or "{}"
        arguments = written if len(written) <= LONGEST else "{}"
        self.keep(ToldCall(call.call_id, clipped(call.name, LONGEST_NAME), arguments, now))

    def told(self, call_id: str, result: str) -> None:
        if call := self._calls.get(call_id):
            self.keep(replace(call, result=clipped(result, LONGEST)))

    def keep(self, call: ToldCall) -> None:
        """Keep a call, in the place of what is known of it."""
        if known := self._calls.get(call.call_id):
            self._size -= known.size
        self._calls[call.call_id] = call
        self._size += call.size
        self._forget()

    def _forget(self) -> None:
        while self._size > MOST_CHARACTERS:
            oldest = next(iter(self._calls))
            self._size -= self._calls.pop(oldest).size
