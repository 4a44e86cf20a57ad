"""Actions that :class:`~telephony.engine.session.CallSession` returns, to be taken in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from telephony.engine.after_stream import AfterStream
from telephony.engine.codes import EndedReason, EventKind, OnErrorCode
from telephony.engine.commands import Command
from telephony.engine.costs import TokenUsage
from telephony.engine.plan import CallPlan
from telephony.engine.spoken import SpokenGreeting
from telephony.engine.tool_runs import ToolRun
from telephony.engine.transcript import Line


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """Send the caller audio: base64 of mu-law at 8 kHz."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class SendMark:
    """Ask Twilio to report when all audio so far has been played."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearAudio:
    """Drop what the caller has not heard yet."""


@dataclass(frozen=True, slots=True)
class ToModel:
    """Send the model a command, in its protocol."""

    command: Command


@dataclass(frozen=True, slots=True)
class ConnectModel:
    """Leave the model, connected or not, and connect the call to the first one of this plan.

    The connection begins ``after_s`` seconds later.
    """

    plan: CallPlan
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeepGreeting:
    """Put the greeting of this plan in the cache, as its model said it."""

    spoken: SpokenGreeting


@dataclass(frozen=True, slots=True)
class RunTool:
    """Send the tool call to the customer's backend; report ToolReturned or ToolFailed."""

    call_id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Stop waiting for the backend's response."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Note:
    """An event for the call's timeline; never contains what was said, nor a credential."""

    kind: EventKind
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportError:
    """Send onError."""

    code: OnErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class CloseCaller:
    """Close the media stream, then do what ``after`` says."""

    after: AfterStream = None


@dataclass(frozen=True, slots=True)
class GiveOut:
    """Let another media stream go on with the call, in this engine or another one."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The last action of a session: the record of the call is complete.

    ``ended_at`` is on the session's clock.
    """

    reason: EndedReason
    ended_at: float
    transcript: tuple[Line, ...]
    tool_runs: tuple[ToolRun, ...]
    usage: TokenUsage


Action = (
    PlayAudio
    | SendMark
    | ClearAudio
    | ToModel
    | ConnectModel
    | KeepGreeting
    | RunTool
    | CancelTool
    | Note
    | ReportError
    | CloseCaller
    | GiveOut
    | Finish
)
