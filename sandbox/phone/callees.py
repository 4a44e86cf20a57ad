"""The people whom the phone network calls, and what they do when it rings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sandbox.phone.person import Step

Answers = Literal["human", "machine", "busy", "no-answer", "failed"]

_SMALL_TALK = (
    Step("say", "Hello?"),
    Step("listen"),
    Step("say", "Thank you, goodbye."),
    Step("listen", 3.0),
    Step("hang_up"),
)
_VOICEMAIL = (
    Step("say", "Nobody is at home. Please leave a message after the beep."),
    Step("wait", 20.0),
    Step("hang_up"),
)


@dataclass(frozen=True, slots=True)
class Callee:
    """A person who can be called. Times are in seconds of call time."""

    answers: Answers = "human"
    rings_for: float = 1.0
    script: tuple[Step, ...] = _SMALL_TALK

    @property
    def picks_up(self) -> bool:
        return self.answers in ("human", "machine")

    @property
    def lines(self) -> tuple[str, ...]:
        """Return what they say, whatever they hear."""
        return tuple(str(step.what) for step in self.script if step.action == "say")


CalleeOf = Callable[[str], Callee]

# The meaning of a number's last four digits, if no callee is set for the number.
ENDINGS = {
    "0001": Callee(answers="busy"),
    "0002": Callee(answers="no-answer"),
    "0003": Callee(answers="failed"),
    "0004": Callee(answers="machine", script=_VOICEMAIL),
}


class Directory:
    """Finds the callee of a number: the one that was set, or one by its last digits."""

    def __init__(self) -> None:
        self._callees: dict[str, Callee] = {}

    def put(self, number: str, callee: Callee) -> None:
        self._callees[number] = callee

    def __call__(self, number: str) -> Callee:
        return self._callees.get(number) or ENDINGS.get(number[-4:]) or Callee()
