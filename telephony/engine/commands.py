"""What a session asks of a model, whatever protocol the model speaks.

A codec (``telephony.engine.codecs``) translates commands to a protocol's messages. An id that we
choose begins with ``OWN_ITEM``; an error about a command names it (``ModelErrored.about``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from telephony.engine.plan import CallPlan

OWN_ITEM = "sh_"
# The id of the command that configures the model.
CONFIGURATION = "sh_configuration"


@dataclass(frozen=True, slots=True)
class Respond:
    """Request a response; its own ``instructions`` replace the prompt, and exclude tools."""

    id: str
    instructions: str = ""
    aloud: bool = False


@dataclass(frozen=True, slots=True)
class CancelResponse:
    pass


@dataclass(frozen=True, slots=True)
class CommitSpeech:
    """End the caller's turn now, so that its transcript arrives."""


@dataclass(frozen=True, slots=True)
class AddText:
    """Add a text message from the caller or, with ``role`` system, from us.

    With ``role`` assistant it is what the model said in an earlier session.
    """

    item_id: str
    text: str
    role: Literal["user", "system", "assistant"] = "user"


@dataclass(frozen=True, slots=True)
class AddToolCall:
    """Add a tool call that the model made in an earlier session; ``arguments`` is JSON text."""

    item_id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class AddToolResult:
    """Add the result of a tool call, as the model is to read it."""

    item_id: str
    call_id: str
    result: str


HistoryItem = AddText | AddToolCall | AddToolResult


@dataclass(frozen=True, slots=True)
class Configure:
    """Configure the model for the call: prompt, voice, tools, turns.

    ``history`` is what was said and done in earlier sessions of the call, oldest first.
    """

    plan: CallPlan
    history: tuple[HistoryItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut what the model said to the milliseconds of it that the caller heard."""

    item_id: str
    heard_ms: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """Report what is left to report: the call has ended, and nothing more will be said."""


Command = (
    Configure
    | Respond
    | CancelResponse
    | CommitSpeech
    | AddText
    | AddToolCall
    | AddToolResult
    | Truncate
    | Conclude
)
