"""The timeline of a call, within limits. It never contains what was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telephony.engine.actions import Note
from telephony.engine.bounds import clipped
from telephony.engine.codes import EventKind

# Four hours with a turn every four seconds have about 19,600 events.
MOST_NOTES = 20_000
# For each kind of event that only a fault causes: a peer can cause faults without end.
MOST_TROUBLE = 100
TROUBLE = frozenset(
    {
        EventKind.MODEL_ERROR,
        EventKind.NOT_UNDERSTOOD,
        EventKind.RESPONSE_FAILED,
        EventKind.RESPONSE_LOST,
        EventKind.MARKS_LOST,
        EventKind.SPEECH_END_LOST,
        EventKind.REPEATED,
        EventKind.NOT_SPOKEN,
    }
)


class Timeline:
    def __init__(self) -> None:
        self._counts: dict[EventKind, int] = {}
        self._count = 0

    def counts(self) -> dict[str, int]:
        """Return the number of events by kind, those that were not kept included."""
        return {str(kind): count for kind, count in self._counts.items()}

    def follow(self, counts: Mapping[str, int]) -> None:
        """Continue a timeline that has so many events."""
        self._counts = {kind: counts[kind] for kind in EventKind if kind in counts}
        self._count = sum(counts.values())

    def note(self, kind: EventKind, detail: dict[str, Any]) -> Note | None:
        """Return the event, or None if there are too many; the last one of a kind says so."""
        self._count += 1
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        most = MOST_TROUBLE if kind in TROUBLE else MOST_NOTES
        if count > most or self._count > MOST_NOTES:
            return None
        kept = {
            name: clipped(value) if isinstance(value, str) else value
            for name, value in detail.items()
        }
        if count == most or self._count == MOST_NOTES:
            kept["more"] = "not kept"
        return Note(kind, kept)
