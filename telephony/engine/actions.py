"""What :class:`~telephony.engine.session.CallSession` wants done, in this order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from telephony.engine.after_stream import AfterStream
from telephony.engine.codes import EndedReason, EventKind, OnErrorCode
from telephony.engine.costs import TokenUsage
from telephony.engine.tool_runs import ToolRun
from telephony.engine.transcript import Line


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """Send the caller audio: base64 of mu-law at 8 kHz."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class SendMark:
    """Ask to hear when all audio so far has been played."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearAudio:
    """Drop what the caller has not heard yet."""


@dataclass(frozen=True, slots=True)
class ToModel:
    """Send the model a client event, as JSON types."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunTool:
    """Ask the customer's backend; answer with ToolReturned or ToolFailed."""

    call_id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CancelTool:
    """The answer is no longer waited for."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the call's timeline; never what was said, never a credential."""

    kind: EventKind
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportError:
    """Fire onError."""

    code: OnErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class CloseCaller:
    """Close the media stream; then do what ``after`` says."""

    after: AfterStream = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over and nothing more will be learned of it: the last action of a session.

    ``ended_at`` is on the clock that the session was given.
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
    | RunTool
    | CancelTool
    | Note
    | ReportError
    | CloseCaller
    | Finish
)
