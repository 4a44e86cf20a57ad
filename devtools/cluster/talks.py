"""A conversation as all sides saw it, and the result of a run of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from devtools.cluster import dialogue
from devtools.cluster.participants import Reported
from devtools.cluster.system import percentile
from devtools.cluster.talkers import Told
from telephony.engine.costs import openai_cost

Line = tuple[str, str]


@dataclass
class Talk:
    """A conversation, seen from all sides: its caller, the model, the backend, the API.

    ``lines`` is the transcript, ``tools`` how often the backend was asked by number, ``results``
    what came of it.
    """

    told: Told
    reported: Reported
    lines: list[Line] = field(default_factory=list)
    tools: Counter[int] = field(default_factory=Counter)
    results: list[str] = field(default_factory=list)
    duration: int = 0
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def silences(self) -> list[float | None]:
        """The silence of each move, in seconds; None if the model never heard the caller again."""
        return [after(at, self.reported.hears_at) for at in self.told.closed[:-1]]

    @property
    def asked_again(self) -> int:
        """Return how many questions had to be asked again because the call moved."""
        return len(self.told.cut) + len(self.told.again)

    @property
    def used(self) -> float:
        """What all that the model reported costs, in USD."""
        return float(openai_cost(dialogue.MODEL, dialogue.all_used(self.reported.used.elements())))


def after(at: float, moments: Iterable[float]) -> float | None:
    """Return how long after a moment the next one of others came."""
    return min((moment - at for moment in moments if moment > at), default=None)


@dataclass(frozen=True, slots=True)
class TalkRow:
    """The result of one run; times in seconds, ``cost`` OpenAI's in USD."""

    run: str
    talks: int
    moves: int
    cut: int
    whole: int
    lost: int
    again: int
    asked: int
    answered: int
    seconds: int
    cost: float
    silence: tuple[float, float, float]
    wait: tuple[float, float]

    @classmethod
    def head(cls) -> str:
        return (
            f"{'run':12}{'calls':>6}{'moves':>6}{'cut':>5}{'whole':>7}{'lost turns':>12}"
            f"{'asked again':>13}{'tools asked, answered':>23}{'seconds':>9}{'USD':>10}"
            f"{'silence p50, p95, most':>25}{'answer p50, most':>18}"
        )

    def __str__(self) -> str:
        silence = ", ".join(f"{each:.2f}" for each in self.silence)
        wait = ", ".join(f"{each:.1f}" for each in self.wait)
        return (
            f"{self.run:12}{self.talks:6}{self.moves:6}{self.cut:5}{self.whole:7}{self.lost:12}"
            f"{self.again:13}{f'{self.asked}, {self.answered}':>23}{self.seconds:9}"
            f"{self.cost:10.6f}{f'{silence} s':>25}{f'{wait} s':>18}"
        )


def lost_turns(lines: Iterable[Line], turns: int) -> set[int]:
    """Return the turns of which the transcript lacks a line."""
    there = set(lines)
    return {
        number
        for number in range(1, turns + 1)
        if not {("user", dialogue.question(number)), ("assistant", dialogue.answer(number))}
        <= there
    }


def repeated_turns(lines: Iterable[Line]) -> set[int]:
    return {dialogue.number_in(text) for (_, text), times in Counter(lines).items() if times > 1}


def row_of(run: str, talks: list[Talk], turns: int) -> TalkRow:
    silences = Counter(each for talk in talks for each in talk.silences if each is not None)
    waits = Counter(each for talk in talks for each in talk.told.waits)
    whole = dialogue.lines(turns)
    return TalkRow(
        run,
        len(talks),
        moves=sum(len(talk.silences) for talk in talks),
        cut=sum(bool(talk.told.why) for talk in talks),
        whole=sum(talk.lines == whole for talk in talks),
        lost=sum(len(lost_turns(talk.lines, turns)) for talk in talks),
        again=sum(talk.asked_again for talk in talks),
        asked=sum(talk.tools.total() for talk in talks),
        answered=sum(len(talk.results) for talk in talks),
        seconds=sum(talk.duration for talk in talks),
        cost=sum(talk.costs.get("openaiCost", 0.0) for talk in talks),
        silence=(
            percentile(silences, 0.5),
            percentile(silences, 0.95),
            max(silences, default=0.0),
        ),
        wait=(percentile(waits, 0.5), max(waits, default=0.0)),
    )
