"""How fast a call was, for its page: the times in words, and a chart of the agent's responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from dashboard.call_words import is_slow, milliseconds, offset_of
from telephony.call_figures import Figures, figures_of, milliseconds_in
from telephony.engine.codes import EventKind
from telephony.models import Call, CallEvent

# The newest ones. At this number, a bar is a few pixels wide on a phone.
MOST_TURNS = 60
# In the units of the drawing, which stretches it to its place on the page.
HEIGHT = 100
_STEP, _BAR, _FEWEST = 14, 10, 20

_TOOL_ENDS = (EventKind.TOOL_RETURNED, EventKind.TOOL_FAILED, EventKind.TOOL_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took in a call."""

    label: str
    text: str
    is_slow: bool


@dataclass(slots=True)
class Turn:
    """A response of the agent, with the milliseconds since the caller stopped speaking.

    :ivar offset: when it began, as in the timeline.
    :ivar received: until its first audio came.
    :ivar heard: until the caller began to hear it; None if they interrupted before.
    """

    number: int
    offset: str
    received: int
    heard: int | None = None

    @property
    def longest(self) -> int:
        return max(self.received, self.heard or 0)

    @property
    def received_text(self) -> str:
        return milliseconds(self.received)

    @property
    def heard_text(self) -> str:
        return milliseconds(self.heard)


@dataclass(frozen=True, slots=True)
class Bar:
    """A turn in the drawing: first audio, and on top of it the time until it was heard."""

    turn: Turn
    x: int
    received: str
    received_top: str
    longest: str
    longest_top: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The drawing of a call's turns. ``half_y`` and ``most_y`` are the heights of p50 and p95."""

    bars: list[Bar]
    width: int
    height: int
    bar_width: int
    top: str
    label: str
    half_y: str
    most_y: str


def response_times(call: Call, events: Sequence[CallEvent]) -> dict[str, Any]:
    """Return the context of a call's response times.

    p50 and p95 are those that the call keeps. Those of a call in progress, or of one that ended
    before they were kept, follow from the events.
    """
    found = figures_of(events)
    kept = (call.first_audio_ms, call.turn_p50_ms, call.turn_p95_ms)
    if kept == (None, None, None):
        kept = (found.first_audio, found.turn(0.5), found.turn(0.95))
    first, half, most = kept
    turns = turns_of(call, events)[-MOST_TURNS:]
    chart = _chart(turns, half, most) if turns and half is not None and most is not None else None
    return {
        "latencies": _latencies(found, events, first, half, most),
        "turns": turns,
        "turns_chart": chart,
        "are_turns_cut": bool(turns) and turns[0].number > 1,
        "has_response_times": bool(call.answered_at),
    }


def turns_of(call: Call, events: Iterable[CallEvent]) -> list[Turn]:
    """Return the agent's responses that were measured, oldest first."""
    turns: list[Turn] = []
    for event in events:
        latency = milliseconds_in(event, "latencyMs")
        if latency is None:
            continue
        if event.kind == EventKind.AGENT_SPOKE:
            turns.append(Turn(len(turns) + 1, offset_of(event, call), latency))
        elif event.kind == EventKind.AGENT_HEARD and turns:
            turns[-1].heard = latency
    return turns


def _latencies(
    found: Figures,
    events: Iterable[CallEvent],
    first: int | None,
    half: int | None,
    most: int | None,
) -> list[Latency]:
    """Return what is known of how long the caller waited, in words."""
    ends = [event for event in events if event.kind in _TOOL_ENDS]
    tools = [ms for event in ends if (ms := milliseconds_in(event, "ms")) is not None]
    return [
        *_summary("onCallStart", found.on_call_start, "onCallStartMs"),
        *_one("First audio", first, EventKind.GREETED),
        *_one("Responses, p50", half, "latencyMs"),
        *_one("Responses, p95", most, "latencyMs"),
        *_summary("Tools", tools, EventKind.TOOL_RETURNED),
    ]


def _one(label: str, value: int | None, what: str) -> list[Latency]:
    return [] if value is None else [Latency(label, milliseconds(value), is_slow(what, value))]


def _summary(label: str, values: Sequence[int], what: str) -> list[Latency]:
    """Return the median and the slowest."""
    if not values:
        return []
    text = milliseconds(median(values))
    if len(values) > 1:
        text = f"{text} (slowest {milliseconds(max(values))})"
    return [Latency(label, text, is_slow(what, max(values)))]


def _chart(turns: Sequence[Turn], half: int, most: int) -> Chart:
    top = max(*(turn.longest for turn in turns), most, 1)
    times = [turn.received for turn in turns]
    label = f"from {milliseconds(min(times))} to {milliseconds(max(times))}"

    def height(ms: int) -> float:
        return HEIGHT * ms / top

    bars = [
        Bar(
            turn,
            x=place * _STEP + (_STEP - _BAR) // 2,
            received=f"{height(turn.received):.1f}",
            received_top=f"{HEIGHT - height(turn.received):.1f}",
            longest=f"{height(turn.longest):.1f}",
            longest_top=f"{HEIGHT - height(turn.longest):.1f}",
        )
        for place, turn in enumerate(turns)
    ]
    return Chart(
        bars=bars,
        width=max(len(turns), _FEWEST) * _STEP,
        height=HEIGHT,
        bar_width=_BAR,
        top=milliseconds(top),
        label=label,
        half_y=f"{HEIGHT - height(half):.1f}",
        most_y=f"{HEIGHT - height(most):.1f}",
    )
