"""What a call's timeline says in figures: how fast it was, and what happened in it how often.

The call, the sums by day, the log and pages have latencies from here. Only the chart on a call's
page reads them from the timeline itself, turn by turn (``dashboard.call_latency``). A turn's
latency is the time from the end of the caller's speech to the first audio of the response, tools
included.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.db.models import Q

from telephony.engine.codes import EventKind
from telephony.models import Call, CallEvent

_ASKED = (EventKind.ACCEPTED, EventKind.DECLINED, EventKind.NOT_ACCEPTED)
_COUNTED = (
    EventKind.INTERRUPTED,
    EventKind.TOOL_CALLED,
    EventKind.TOOL_FAILED,
    EventKind.TOOL_TIMEOUT,
)
_TIMED = (*_ASKED, EventKind.MODEL_READY, EventKind.GREETED, EventKind.AGENT_SPOKE)
# What the columns of a call can store.
_LONGEST_MS = 2**31 - 1


class Event(Protocol):
    """An entry of a timeline, such as a ``CallEvent``. Another version may have written it."""

    kind: str
    detail: Any


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a call. Times are in milliseconds, in order.

    :ivar first_audio: from the caller's connection to the agent's first words; None unless the
        agent spoke first.
    :ivar model: the model that accepted the call last.
    :ivar counts: events by their kind.
    """

    on_call_start: Sequence[int]
    first_audio: int | None
    turns: Sequence[int]
    model: str | None
    counts: Counter[str]

    def turn(self, share: float) -> int | None:
        """Return the latency that this share of the turns did not exceed; None without turns."""
        return percentile(self.turns, share)


def percentile(values: Sequence[int], share: float) -> int | None:
    """Return the smallest of the values that a share of them do not exceed; None without any."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1] if values else None


def figures_of(events: Iterable[Event]) -> Figures:
    """Return the figures of events, which are in order."""
    events = list(events)
    greeted = _times(events, [EventKind.GREETED], "ms")
    models = [_detail(event, "model") for event in events if event.kind == EventKind.MODEL_READY]
    return Figures(
        on_call_start=_times(events, _ASKED, "onCallStartMs"),
        first_audio=greeted[0] if greeted else None,
        turns=_times(events, [EventKind.AGENT_SPOKE], "latencyMs"),
        model=models[-1] if models else None,
        counts=Counter(event.kind for event in events),
    )


def figures_at_end(call: Call) -> Figures:
    """Return the figures of a call's timeline, with one query."""
    # An engine that was cut off adds to the timeline before the call's loss is undone. Tools may
    # end after the call.
    until_end = Q(kind__in=_TIMED, at__lte=call.ended_at) | Q(kind__in=_COUNTED)
    events = CallEvent.objects.filter(until_end, call=call).order_by("at", "id")
    return figures_of(events.only("kind", "detail"))


def milliseconds_in(event: Event, name: str) -> int | None:
    """Return a detail that is a time; None if there is none, or something else."""
    value = _detail(event, name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return round(value) if is_number and 0 <= value <= _LONGEST_MS else None


def _times(events: Iterable[Event], kinds: Sequence[EventKind], name: str) -> list[int]:
    asked = (milliseconds_in(event, name) for event in events if event.kind in kinds)
    return [each for each in asked if each is not None]


def _detail(event: Event, name: str) -> Any:
    return event.detail.get(name) if isinstance(event.detail, dict) else None
