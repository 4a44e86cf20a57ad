"""Scripts for the model: turns for its responses, and disturbances of its connection.

A customer scripts the sandbox's model with a fenced block in the system prompt: a JSON list with
one entry per response. See README.md beside this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Say:
    """Speak (or write, in a text response); with ``stall_at_ms``, stop for good after that much."""

    text: str
    stall_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """Call a tool. Arguments that are text are sent as they are, valid JSON or not.

    A cancelled call ends the response as if the caller had begun to speak: the arguments are
    complete, the item is not.
    """

    name: str
    arguments: dict[str, Any] | str
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for a while, on the model's own clock: without pace it takes no time."""

    ms: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing more until the response is cancelled."""


@dataclass(frozen=True, slots=True)
class Fail:
    """End the response as failed."""

    code: str = "server_error"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """End the response before it is complete."""

    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"


@dataclass(frozen=True, slots=True)
class Error:
    """Send an ``error`` event; the socket is closed after it where the real server does so."""

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket with a close frame."""

    code: int = 1011
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """Cut the connection without a close frame."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Send nothing for a while, and then at once everything that came up in the meantime."""

    ms: float


@dataclass(frozen=True, slots=True)
class Expire:
    """End the session as if its time were up."""


Disturbance = Error | Close | Drop | Hold | Expire
Step = Say | Call | Wait | Stall | Fail | Incomplete | Disturbance
Turn = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class When:
    """Disturb the connection at the ``nth`` client event of a type.

    ``event`` is a type such as ``session.update``, or ``open`` for the opened socket. With
    ``instead`` the event has no other effect: it is swallowed.
    """

    event: str
    disturbances: tuple[Disturbance, ...] = ()
    nth: int = 1
    instead: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """The script of a session.

    ``turns``: one or more steps per response; after the last turn the model speaks for itself.
    ``greets``: a request to say something exactly is obeyed, and takes no turn.
    ``when``: disturbances of the connection.
    ``upgrade``: HTTP status of the response to the upgrade (101: accepted); None sends no response.
    ``transcripts_ms``: when the transcript of the caller's nth turn comes, after that turn's end
    (None: never); a turn that is not listed has its transcript after ``TRANSCRIPT_MS``.
    ``transcription_fails``: transcripts are reported as failed.
    ``twice``: types of events that are sent twice.
    ``odd_json``: events are written with other key orders and spacing than the real server's.
    """

    turns: Sequence[Step | Sequence[Step]] = ()
    greets: bool = True
    when: Sequence[When] = ()
    upgrade: int | None = 101
    transcripts_ms: Sequence[float | None] = ()
    transcription_fails: bool = False
    twice: Collection[str] = ()
    odd_json: bool = False

    def turn(self, number: int) -> Turn | None:
        """Return the turn of the session's response with this number, or None after the last."""
        if number >= len(self.turns):
            return None
        entry = self.turns[number]
        return tuple(entry) if isinstance(entry, Sequence) else (entry,)


class ScriptError(ValueError):
    """The script in a system prompt is invalid; the message says what is wrong."""


_BLOCK = re.compile(r"^```sandbox[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def script_in(prompt: str) -> list[Turn] | None:
    """Return the turns in the prompt's fenced block, or None if it has none."""
    block = _BLOCK.search(prompt)
    if block is None:
        return None
    try:
        entries = json.loads(block[1])
    except ValueError as error:
        raise ScriptError(f"The sandbox's script is not JSON: {error}.") from None
    if not isinstance(entries, list):
        raise ScriptError("The sandbox's script is not a list.")
    return [_turn(entry, f"[{index}]") for index, entry in enumerate(entries)]


def _turn(entry: Any, path: str) -> Turn:
    if isinstance(entry, list):
        return tuple(_step(step, f"{path}[{index}]") for index, step in enumerate(entry))
    return (_step(entry, path),)


def _step(entry: Any, path: str) -> Step:
    match entry:
        case {"say": str(text), **rest} if not rest:
            return Say(text)
        case {"call": str(name), **rest} if rest.keys() <= {"arguments"}:
            arguments = rest.get("arguments", {})
            if isinstance(arguments, dict):
                return Call(name, arguments)
        case {"wait": int() | float() as ms, **rest} if not rest:
            return Wait(ms)
        case {"stall": True, **rest} if not rest:
            return Stall()
        case {"fail": str(code), **rest} if not rest:
            return Fail(code)
        case {"error": str(code), **rest} if not rest:
            return Error(code)
        case {"close": int(code), **rest} if not rest and 1000 <= code < 5000:
            return Close(code)
        case {"drop": True, **rest} if not rest:
            return Drop()
        case {"hold": int() | float() as ms, **rest} if not rest:
            return Hold(ms)
        case {"expire": True, **rest} if not rest:
            return Expire()
    raise ScriptError(
        f"The sandbox's script has something other than a step at {path}: "
        "use say, call (with arguments), wait, stall, fail, error, close, drop, hold or expire."
    )
