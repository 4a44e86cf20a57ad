"""What happens to the caller once the media stream is closed.

The session decides it, the call's record keeps it until Twilio asks, and TwiML carries it out. A
test call's page is told instead.
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

    ``caller_id`` is the number that the callee is shown: "" for the caller's own, None as long as
    nobody has decided that.
    """

    to: str
    caller_id: str | None = None


# None: hang up.
AfterStream = Say | Dial | None


def as_json(after: AfterStream) -> dict[str, str]:
    """Return it as ``Call.after_stream`` and the test call's page have it."""
    match after:
        case Say():
            return {"say": after.text}
        case Dial(caller_id=None):
            return {"transfer": after.to}
        case Dial(caller_id=str(caller_id)):
            return {"transfer": after.to, "caller_id": caller_id}
    return {}


def from_json(kept: Mapping[str, str] | None) -> AfterStream:
    """Read what :func:`as_json` has written.

    Where nothing was written, the engine that held the call has died: the caller is told, unless
    it is they who hung up.
    """
    if kept is None:
        return Say(APOLOGY)
    if "transfer" in kept:
        return Dial(kept["transfer"], kept.get("caller_id", ""))
    return Say(kept["say"]) if kept.get("say") else None
