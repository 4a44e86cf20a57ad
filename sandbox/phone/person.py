"""The person on the phone: speaks, listens, interrupts, presses keys, hangs up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

from sandbox.phone.journal import Journal
from sandbox.phone.line import Line, LineClosed

Action = Literal["say", "listen", "interrupt", "press", "wait", "until_connected", "hang_up"]

# How much silence means that the other party has finished.
QUIET_S = 0.8
# How long to wait for the other party to speak.
PATIENCE_S = 8.0
_KEY_S = 0.2


class Step(NamedTuple):
    """One action of a person; ``what`` is text, digits or seconds."""

    action: Action
    what: str | float = ""


class ScriptError(ValueError):
    """An invalid step."""


def parse_script(steps: object) -> list[Step]:
    """Parse steps such as ``{"say": "Hello"}``, ``{"listen": 5}``, ``{"hang_up": true}``."""
    if not isinstance(steps, list):
        raise ScriptError("A script is a list of steps.")
    script: list[Step] = []
    for step in steps:
        if not isinstance(step, dict) or len(step) != 1:
            raise ScriptError(f"{step!r} is no step: use an object with one member.")
        ((action, what),) = step.items()
        if action not in get_args(Action):
            raise ScriptError(f"{action!r} is no action: use one of {', '.join(get_args(Action))}.")
        wants_text = action in ("say", "interrupt", "press")
        wants_number = action == "wait" or (action == "listen" and what is not True)
        if wants_text and not isinstance(what, str):
            raise ScriptError(f"{action} needs a text.")
        if wants_number and (isinstance(what, bool) or not isinstance(what, int | float)):
            raise ScriptError(f"{action} needs a number of seconds.")
        script.append(Step(action, PATIENCE_S if action == "listen" and what is True else what))
    return script


class Person:
    """Every method but :meth:`hang_up` takes time, and raises LineClosed if the call ends."""

    def __init__(
        self,
        line: Line,
        journal: Journal,
        *,
        press: Callable[[str], None],
        hang_up: Callable[[], None],
    ) -> None:
        self.hang_up = hang_up
        self._line = line
        self._journal = journal
        self._press = press
        self._attended = 0

    async def say(self, text: str) -> None:
        """Say the text to its end."""
        self._journal.add("says", text=text)
        self._line.speak(text)
        await self._line.until(lambda: not self._line.is_speaking)
        self._attended = len(self._line.heard)

    async def listen(self, *, patience: float = PATIENCE_S, quiet: float = QUIET_S) -> str:
        """Return the agent's next words, once it has been quiet for a moment.

        Words since the person last listened or spoke count. Returns "" if the agent says nothing
        within ``patience``.
        """
        line = self._line
        start, quiet_ms = self._attended, quiet * 1000
        await line.until(lambda: len(line.heard) > start, within=patience)
        await line.until(lambda: line.silent_ms >= quiet_ms)
        self._attended = len(line.heard)
        return line.heard[start:].strip()

    async def hears(self, text: str, *, patience: float = 30.0) -> None:
        """Wait until the agent has said the text, at any time in the call.

        :raises TimeoutError: it did not within ``patience``.
        """
        if not await self._line.until(lambda: text in self._line.heard, within=patience):
            raise TimeoutError(f"Did not hear {text!r}, but {self._line.heard!r}.")

    async def interrupt(
        self, text: str, *, after: float = 0.4, patience: float = PATIENCE_S
    ) -> None:
        """Say the text while the agent is speaking, once it has spoken for that long.

        If the agent says nothing within ``patience``, there is nothing to interrupt.
        """
        line = self._line
        after_ms = after * 1000
        await line.until(
            lambda: line.silent_ms == 0 and line.spoken_ms >= after_ms, within=patience
        )
        await self.say(text)

    async def press(self, digits: str) -> None:
        for digit in digits:
            self._journal.add("presses", digit=digit)
            self._press(digit)
            await self.wait(_KEY_S)

    async def wait(self, seconds: float) -> None:
        await self._line.until(lambda: False, within=seconds)

    async def until_connected(self, *, patience: float = 30.0) -> None:
        """Wait for a media stream that receives the audio: before that, nobody hears it."""
        await self._line.until(lambda: self._line.far_end is not None, within=patience)

    async def follow(self, script: Iterable[Step]) -> None:
        """Run the steps in order, while the call lasts."""
        try:
            for step in script:
                await self._take(step)
        except LineClosed:
            pass

    async def _take(self, step: Step) -> None:
        match step.action:
            case "say":
                await self.say(str(step.what))
            case "listen":
                await self.listen(patience=float(step.what or PATIENCE_S))
            case "interrupt":
                await self.interrupt(str(step.what))
            case "press":
                await self.press(str(step.what))
            case "wait":
                await self.wait(float(step.what))
            case "until_connected":
                await self.until_connected()
            case "hang_up":
                self.hang_up()
