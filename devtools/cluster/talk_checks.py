"""What must hold of conversations that were moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from devtools.chaos.report import Notes
from devtools.cluster import dialogue
from devtools.cluster.system import percentile
from devtools.cluster.talks import Line, Talk, after, lost_turns, repeated_turns
from telephony.engine.costs import openai_cost

#: The longest that 95% of all moves may keep caller and model apart.
MOST_SILENCE_S = 1.5
# Between a caller's first sound and the model's report of it, which takes a tenth of a second, a
# call still seems to be at rest. If it moves then, its caller has to say that again. These callers
# rest for little more than a second at a time, so that is not rare; it must not be the rule.
_MOST_AGAIN = 0.25


@dataclass(frozen=True, slots=True)
class TalkChecks:
    """Checks conversations of so many turns, and puts what is wrong in the notes."""

    notes: Notes
    turns: int

    def expect_whole(self, talks: Iterable[Talk]) -> None:
        """Check conversations that nothing may have disturbed, as far as people notice."""
        lines = dialogue.lines(self.turns)
        heard = " ".join(text for role, text in lines if role == "assistant")
        numbers = Counter(
            number for number in range(1, self.turns + 1) if dialogue.needs_tool(number)
        )
        for talk in talks:
            self._expect_to_its_end(talk)
            self._expect(
                "Twilio has nothing to report.", not talk.told.trouble, talk, f"{talk.told.trouble}"
            )
            self._expect(
                "The caller hears each answer once, and nothing else.",
                talk.told.heard == heard,
                talk,
                f"asked again {talk.told.again}, cut {talk.told.cut}: {talk.told.heard}",
            )
            self._expect(
                "The transcript is whole and in order.",
                talk.lines == lines,
                talk,
                _first_difference(talk.lines, lines),
            )
            self._expect(
                "Each tool is asked once and answered once.",
                talk.tools == numbers
                and talk.results == [dialogue.answer(number) for number in numbers],
                talk,
                f"asked {dict(talk.tools)}, answered {talk.results}",
            )
            self._expect(
                "The cost is that of all that the model reported.",
                talk.costs.get("openaiCost") == talk.used,
                talk,
                f"{talk.costs} and {talk.used}: {dict(talk.reported.used)}",
            )

    def expect_nearly_whole(self, talks: Iterable[Talk]) -> None:
        """Check conversations whose engine was killed: they may lack one turn, or repeat it."""
        for talk in talks:
            self._expect_to_its_end(talk)
            lost, repeated = lost_turns(talk.lines, self.turns), repeated_turns(talk.lines)
            numbers = [dialogue.number_in(text) for _, text in talk.lines[1:]]
            self._expect(
                "At most one turn is lost, and the rest is in order.",
                len(lost | repeated) <= 1 and numbers == sorted(numbers),
                talk,
                f"lost {lost}, repeated {repeated}: {talk.lines}",
            )
            again = {number: times - 1 for number, times in talk.tools.items() if times > 1}
            self._expect(
                "Each tool is asked once, but for that of the lost turn.",
                sum(again.values()) <= 1
                and set(talk.tools)
                == {n for n in range(1, self.turns + 1) if dialogue.needs_tool(n)},
                talk,
                f"{dict(talk.tools)}",
            )
            self._expect(
                "The cost is that of all that the model reported, but for one turn.",
                0 <= talk.used - talk.costs.get("openaiCost", 0.0) <= _turn_cost(),
                talk,
                f"{talk.costs} and {talk.used}",
            )

    def expect_equal(
        self, talks: list[Talk], others: list[Talk], nearly: Iterable[Talk] = ()
    ) -> None:
        """Compare time and money of calls with those of others, one by one."""
        inexact = {id(talk) for talk in nearly}
        for talk, other in zip(talks, others, strict=True):
            about_one_turn = id(talk) in inexact
            self._expect(
                "A call lasts as long as without a move, to the second.",
                talk.duration == other.duration,
                talk,
                f"{talk.duration} s and {other.duration} s",
            )
            difference = {
                name: abs(cost - other.costs.get(name, 0.0)) for name, cost in talk.costs.items()
            }
            may_differ = ("openaiCost", "totalCost") if about_one_turn else ()
            self._expect(
                "A call costs as much as without a move.",
                all(
                    amount <= (_turn_cost() if name in may_differ else 0.0)
                    for name, amount in difference.items()
                ),
                talk,
                f"{talk.costs} and {other.costs}",
            )

    def expect_few_repetitions(self, talks: Collection[Talk]) -> None:
        again = sum(talk.asked_again for talk in talks)
        moves = sum(len(talk.silences) for talk in talks)
        self.notes.expect(
            "Few moves make a caller say something again.",
            again <= 1 + _MOST_AGAIN * moves,
            came=f"{again} questions in {moves} moves, "
            f"{sum(len(talk.told.cut) for talk in talks)} of them broken off",
        )

    def expect_short_silences(self, whose: str, talks: Collection[Talk]) -> None:
        found = [(talk, each) for talk in talks for each in talk.silences]
        for talk, silence in found:
            self._expect(
                "The model hears the caller again after a move.",
                silence is not None,
                talk,
                f"closed {talk.told.closed}, heard {talk.reported.hears_at}",
            )
        opened = Counter(
            after(at, talk.told.opened) or 0.0 for talk in talks for at in talk.told.closed[:-1]
        )
        self.notes.measure(
            f"{whose} calls have another stream after",
            f"{percentile(opened, 0.5):.2f} s, p95 {percentile(opened, 0.95):.2f} s",
        )
        counts = Counter(silence for _, silence in found if silence is not None)
        self.notes.within(
            f"silence of {whose} calls, p95", percentile(counts, 0.95), MOST_SILENCE_S
        )

    def _expect_to_its_end(self, talk: Talk) -> None:
        told = talk.told
        self._expect(
            "No call ends before its caller hangs up.",
            not told.why,
            talk,
            f"{told.why} {told.trouble}, heard {told.heard[-40:]!r}",
        )
        self._expect(
            "Every question is answered.", not told.unanswered, talk, f"but {told.unanswered}"
        )

    def _expect(self, case: str, holds: bool, talk: Talk, came: str) -> None:
        self.notes.expect(
            case, holds, sent=f"{talk.told.sid}, opened {len(talk.told.opened)} times", came=came
        )


def _turn_cost() -> float:
    """Return what the dearest turn costs, with room for rounding to six decimals, in USD."""
    return float(openai_cost(dialogue.MODEL, dialogue.all_used(dialogue.USED))) + 2e-6


def _first_difference(lines: list[Line], wanted: list[Line]) -> str:
    for at, (line, other) in enumerate(zip(lines, wanted, strict=False)):
        if line != other:
            return f"{lines[max(0, at - 2) : at + 3]} at line {at}, not {other}"
    return f"{len(lines)} lines instead of {len(wanted)}, until {lines[-2:]}"
