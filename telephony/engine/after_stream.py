"""The next step for the caller once the media stream is closed.

The session decides it, the call's record stores it until Twilio asks, and TwiML executes it. In a
test call, the page gets it instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

APOLOGY = "We are sorry, but something went wrong. Please call again later. Goodbye."


@dataclass(frozen=True, slots=True)
class Say:
    """Speak a sentence and hang up."""

    text: str


@dataclass(frozen=True, slots=True)
class Dial:
    """Transfer the caller to a number in E.164.

    ``caller_id`` is the number that the callee sees: "" for the caller's own, None if it is not yet
    decided.
    """

    to: str
    caller_id: str | None = None


# None: hang up.
AfterStream = Say | Dial | None


def as_json(after: AfterStream) -> dict[str, str]:
    """Return the JSON object for ``Call.after_stream`` and for the page of a test call."""
    match after:
        case Say():
            return {"say": after.text}
        case Dial(caller_id=None):
            return {"transfer": after.to}
        case Dial(caller_id=str(caller_id)):
            return {"transfer": after.to, "caller_id": caller_id}
    return {}


def from_json(kept: Mapping[str, str] | None) -> AfterStream:
    """Read the output of :func:`as_json`.

    If there is none, the process that ran the call died: apologize to the caller, who hears it
    unless they hung up.
    """
    if kept is None:
        return Say(APOLOGY)
    if "transfer" in kept:
        return Dial(kept["transfer"], kept.get("caller_id", ""))
    return Say(kept["say"]) if kept.get("say") else None
