"""What is told about calls (``core.observers``), in the order in which it happens.

In parentheses is the process that tells it. Durations are in seconds, unless a name ends in
``_ms``. Facts have no transcript, but an account, numbers and ids: metrics must not use those as
labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from telephony.engine.codes import EventKind
from telephony.engine.costs import TokenUsage

if TYPE_CHECKING:
    from telephony.callbacks.attempts import Result
    from telephony.models import Call
    from usage.models import UsageRecord


@dataclass(frozen=True, slots=True)
class CallStarted:
    """An inbound call was received, or an outbound one queued (engine, web), and committed."""

    call: Call


@dataclass(frozen=True, slots=True)
class WebhookAnswered:
    """Twilio got its response to a webhook that a caller waits for (engine).

    ``webhook`` is inbound, answered or after_stream. ``apologized``: the caller hears an apology,
    because the database or something else was too slow; Twilio still gets a 200. ``status`` is 500
    for an unexpected error.
    """

    webhook: str
    call_sid: str
    status: int
    seconds: float
    apologized: bool = False


@dataclass(frozen=True, slots=True)
class CallStartAsked:
    """The backend responded to onCallStart, or did not (engine; web for test calls).

    ``outcome`` is accepted, rejected or transferred, or an ``ErrorCode`` that begins with
    ``call_start_``. ``status`` is that of HTTP, if there was a response.

    :ivar span: the request's id in the call's trace (``telephony.trace_ids``).
    """

    call: Call
    outcome: str
    status: int | None
    seconds: float
    span: str = ""


@dataclass(frozen=True, slots=True)
class CallHeld:
    """The call's media stream was admitted: this engine holds the call now (engine)."""

    call: Call


@dataclass(frozen=True, slots=True)
class ModelConnected:
    """The model's socket is open, or could not be opened (engine).

    ``outcome`` is ``connected``, ``refused`` with OpenAI's HTTP status, or ``unreachable``.
    """

    call: Call
    outcome: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelDisconnected:
    """OpenAI closed the connection during the call; ``code`` is the websocket's (engine)."""

    call: Call
    code: int


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry of the timeline while the stream is open (engine).

    ``EventKind`` says what ``detail`` has: the latency of a turn, the name and time of a tool.
    ``usage`` is that of the call so far.
    """

    call: Call
    at: datetime
    kind: EventKind
    detail: Mapping[str, Any]
    usage: TokenUsage | None = None


#: The outcome of a tool that still ran when a bug of ours ended its call.
CALL_ENDED = "call_ended"


@dataclass(frozen=True, slots=True)
class ToolAsked:
    """The backend responded to onToolCall, or did not, or too late (engine).

    ``outcome`` is succeeded, the code of a failure, or ``CALL_ENDED``.

    :ivar span: the request's id in the call's trace.
    """

    call: Call
    tool: str
    outcome: str
    seconds: float
    span: str


@dataclass(frozen=True, slots=True)
class CallReleased:
    """The engine no longer holds the call, whose end it has recorded (engine)."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call's end was committed, by whichever process learned of it first.

    It is told again for a call that was resumed (``CallResumed``).

    :ivar model: "" without one; ``usage`` and ``tool_calls`` are what it used and called.
    :ivar record: the minutes and the cost; None for a call that was never accepted.
    """

    call: Call
    model: str
    usage: TokenUsage
    tool_calls: int
    record: UsageRecord | None


@dataclass(frozen=True, slots=True)
class CallResumed:
    """A call that had ended as ``engine_lost`` goes on, and that was committed (engine)."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallbackSent:
    """An attempt to deliver onCallEnd or onError (worker).

    :ivar kind: a ``CallbackDelivery.Kind``.
    :ivar result: how it ended, and how long it took.
    :ivar span: the attempt's id in the call's trace.
    """

    delivery_id: str
    kind: str
    result: Result
    call_id: str = ""
    span: str = ""
