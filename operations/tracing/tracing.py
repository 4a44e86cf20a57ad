"""Makes the trace of each call from what observers are told.

The trace is a tree::

    call                        from the first webhook, or the request for it, to its end
    ├── POST /voice             Twilio's webhooks, to our responses
    │   └── onCallStart         (below call, for a test call)
    ├── invoke_agent            the media stream
    │   ├── connect             the model's socket
    │   └── turn                from the end of the caller's speech to the last response to it
    │       ├── chat <model>    a response of the model, with its tokens
    │       └── execute_tool <tool>     with onToolCall
    └── onCallEnd, onError      an attempt to deliver it, minutes or hours later

Names of attributes follow OpenTelemetry's conventions for generative AI. No attribute has what was
said, a number, a URL or a credential. Each span is exported once, when it ends: if an engine dies,
the spans of its stream are missing, and the call's own comes from the process that ends it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import time_ns
from typing import Any

from core.observers import observe_all
from operations.tracing.spans import Kind, Span
from telephony import facts
from telephony.engine.codes import EventKind
from telephony.engine.costs import TokenUsage
from telephony.models import Call
from telephony.trace_ids import new_span, span_of, trace_of

_NS = 1_000_000_000
# Calls whose webhooks may still come, by CallSid.
_MOST_CALLS = 10_000
_PATHS = {
    "inbound": "POST /voice",
    "answered": "POST /voice/answer",
    "after_stream": "POST /voice/after",
}
_FIRST_WEBHOOK = {Call.Direction.INBOUND: "inbound", Call.Direction.OUTBOUND: "answered"}
_TURN_BEGINS = (EventKind.MODEL_READY, EventKind.CALLER_SPOKE, EventKind.TEXT_TYPED)

CALL, STREAM = "call", "stream"
_NONE_YET = TokenUsage()


@dataclass(slots=True)
class _Turn:
    began: int
    id: str = field(default_factory=new_span)
    ended: int = 0
    first_audio_ms: int | None = None
    is_interrupted: bool = False


@dataclass(slots=True)
class _Stream:
    """A call that this process holds. Times are nanoseconds."""

    began: int
    model: str = ""
    turn: _Turn | None = None
    turns: int = 0
    response_began: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)


class Tracer:
    def __init__(self, export: Callable[[Span], None]) -> None:
        self._export = export
        self._calls: OrderedDict[str, str] = OrderedDict()  # call ids by CallSid
        self._streams: dict[str, _Stream] = {}

    def subscribe(self) -> Callable[[], None]:
        """Trace what observers are told from now on; return the function that ends this."""
        observers: dict[type[Any], Callable[[Any], None]] = {
            facts.CallStarted: self._started,
            facts.WebhookAnswered: self._answered,
            facts.CallStartAsked: self._asked,
            facts.CallHeld: self._held,
            facts.ModelConnected: self._connected,
            facts.Noted: self._noted,
            facts.ToolAsked: self._tool_asked,
            facts.CallReleased: self._released,
            facts.CallEnded: self._ended,
            facts.CallbackSent: self._sent,
        }
        return observe_all(observers)

    def _span(
        self,
        call_id: str,
        name: str,
        *,
        parent: str,
        start: int,
        end: int,
        id: str = "",
        kind: Kind = Kind.INTERNAL,
        error: str = "",
        attributes: Mapping[str, object],
    ) -> None:
        """Export a span of a call."""
        common = {"switchhook.call.id": call_id, "error.type": error}
        span = Span(
            name,
            trace_of(call_id),
            id or new_span(),
            parent,
            start,
            end,
            kind=kind,
            is_error=bool(error),
            attributes={**common, **attributes},
        )
        self._export(span)

    # Webhooks and onCallStart

    def _started(self, fact: facts.CallStarted) -> None:
        self._know(fact.call)

    def _know(self, call: Call) -> None:
        if call.call_sid:
            self._calls[call.call_sid] = call.id
            while len(self._calls) > _MOST_CALLS:
                self._calls.popitem(last=False)

    def _answered(self, fact: facts.WebhookAnswered) -> None:
        call_id = self._calls.get(fact.call_sid)
        if call_id is None or fact.webhook not in _PATHS:  # nothing of ours, such as a forged one
            return
        failed = "apologized" if fact.apologized else str(fact.status) * (fact.status >= 500)
        end = time_ns()
        self._span(
            call_id,
            _PATHS[fact.webhook],
            id=span_of(call_id, fact.webhook),
            parent=span_of(call_id, CALL),
            start=end - _ns(fact.seconds),
            end=end,
            kind=Kind.SERVER,
            error=failed,
            attributes={
                "http.request.method": "POST",
                "http.response.status_code": fact.status,
            },
        )

    def _asked(self, fact: facts.CallStartAsked) -> None:
        call = fact.call
        self._know(call)
        end = time_ns()
        self._span(
            call.id,
            "onCallStart",
            id=fact.span,
            parent=span_of(call.id, CALL if call.is_test else _FIRST_WEBHOOK[_direction(call)]),
            start=end - _ns(fact.seconds),
            end=end,
            kind=Kind.CLIENT,
            error=fact.outcome if fact.outcome.startswith("call_start_") else "",
            attributes={
                "http.request.method": "POST",
                "http.response.status_code": fact.status,
                "switchhook.outcome": fact.outcome,
            },
        )

    # The stream

    def _held(self, fact: facts.CallHeld) -> None:
        self._know(fact.call)
        self._streams[fact.call.id] = _Stream(time_ns())

    def _connected(self, fact: facts.ModelConnected) -> None:
        end = time_ns()
        self._span(
            fact.call.id,
            "connect",
            parent=span_of(fact.call.id, STREAM),
            start=end - _ns(fact.seconds),
            end=end,
            kind=Kind.CLIENT,
            error="" if fact.outcome == "connected" else fact.outcome,
            attributes={
                "gen_ai.provider.name": "openai",
                "http.response.status_code": fact.status,
            },
        )

    def _noted(self, fact: facts.Noted) -> None:
        stream = self._streams.get(fact.call.id)
        if stream is None:
            return
        at = _at(fact.at)
        if fact.kind is EventKind.MODEL_READY:
            stream.model = str(fact.detail.get("model", ""))
        if fact.kind in _TURN_BEGINS:
            self._end_turn(fact.call.id, stream)
            stream.turn, stream.response_began = _Turn(at), at
        match fact.kind:
            case EventKind.RESPONSE_DONE:
                self._responded(fact, stream, at)
            case EventKind.AGENT_SPOKE | EventKind.GREETED:
                turn = self._turn(stream, at)
                turn.first_audio_ms = fact.detail.get("latencyMs")
                turn.ended = at
            case EventKind.INTERRUPTED if stream.turn is not None:
                stream.turn.is_interrupted = True

    def _responded(self, fact: facts.Noted, stream: _Stream, at: int) -> None:
        status = str(fact.detail.get("status", ""))
        usage = fact.usage or TokenUsage()
        turn = self._turn(stream, at)
        self._span(
            fact.call.id,
            f"chat {stream.model}",
            parent=turn.id,
            start=stream.response_began or at,
            end=at,
            kind=Kind.CLIENT,
            error=status if status == "failed" else "",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": stream.model,
                "gen_ai.conversation.id": fact.call.id,
                "gen_ai.output.type": "speech",
                "switchhook.response.status": status,
                **_tokens(usage, since=stream.usage),
            },
        )
        stream.usage, stream.response_began, turn.ended = usage, at, at

    def _tool_asked(self, fact: facts.ToolAsked) -> None:
        stream, end = self._streams.get(fact.call.id), time_ns()
        start = end - _ns(fact.seconds)
        parent = span_of(fact.call.id, STREAM)
        if stream is not None:
            turn = self._turn(stream, start)
            parent, turn.ended = turn.id, end
            stream.response_began = end
        self._span(
            fact.call.id,
            f"execute_tool {fact.tool}",
            id=fact.span,
            parent=parent,
            start=start,
            end=end,
            kind=Kind.CLIENT,
            error="" if fact.outcome == "succeeded" else fact.outcome,
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": fact.tool,
                "gen_ai.tool.type": "function",
                "gen_ai.conversation.id": fact.call.id,
            },
        )

    def _turn(self, stream: _Stream, at: int) -> _Turn:
        """Return the current turn; begin one if the agent acts by itself, such as after keys."""
        stream.turn = stream.turn or _Turn(at)
        return stream.turn

    def _end_turn(self, call_id: str, stream: _Stream) -> None:
        if (turn := stream.turn) is None:
            return
        self._span(
            call_id,
            "turn",
            id=turn.id,
            parent=span_of(call_id, STREAM),
            start=turn.began,
            end=turn.ended or turn.began,
            attributes={
                "switchhook.turn": stream.turns,
                "switchhook.turn.latency_ms": turn.first_audio_ms,
                "switchhook.turn.interrupted": turn.is_interrupted,
            },
        )
        stream.turns, stream.turn = stream.turns + 1, None

    def _released(self, fact: facts.CallReleased) -> None:
        call = fact.call
        if (stream := self._streams.pop(call.id, None)) is None:
            return
        self._end_turn(call.id, stream)
        self._span(
            call.id,
            "invoke_agent",
            id=span_of(call.id, STREAM),
            parent=span_of(call.id, CALL),
            start=stream.began,
            end=time_ns(),
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": stream.model,
                "gen_ai.conversation.id": call.id,
                "switchhook.turns": stream.turns,
                **_tokens(stream.usage),
            },
        )

    # The end

    def _ended(self, fact: facts.CallEnded) -> None:
        call, record = fact.call, fact.record
        ended_at = call.ended_at or call.created_at
        self._span(
            call.id,
            CALL,
            id=span_of(call.id, CALL),
            parent="",
            start=_at(call.created_at),
            end=_at(ended_at),
            error=call.error_code if call.outcome == "failed" else "",
            attributes={
                "switchhook.call.sid": call.call_sid,
                "switchhook.account.id": call.account_id,
                "switchhook.call.direction": str(call.direction),
                "switchhook.call.is_test": call.is_test,
                "switchhook.call.outcome": call.outcome,
                "switchhook.call.ended_reason": str(call.ended_reason),
                "switchhook.call.duration_s": call.duration_seconds,
                "switchhook.call.billed_minutes": record.minutes if record else 0,
                "switchhook.call.tools": fact.tool_calls,
                "switchhook.engine.id": call.engine_id,
                "gen_ai.request.model": fact.model,
                "gen_ai.conversation.id": call.id,
                **_tokens(fact.usage),
            },
        )

    def _sent(self, fact: facts.CallbackSent) -> None:
        result, start = fact.result, _at(fact.result.at)
        self._span(
            fact.call_id,
            str(fact.kind),
            id=fact.span,
            parent=span_of(fact.call_id, CALL),
            start=start,
            end=start + result.duration_ms * 1_000_000,
            kind=Kind.CLIENT,
            error="" if result.delivered else result.text,
            attributes={
                "http.request.method": "POST",
                "http.response.status_code": result.status,
                "switchhook.delivery.id": fact.delivery_id,
            },
        )


def _tokens(usage: TokenUsage | None, *, since: TokenUsage = _NONE_YET) -> dict[str, object]:
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": _input(usage) - _input(since),
        "gen_ai.usage.output_tokens": _output(usage) - _output(since),
        "gen_ai.usage.cache_read.input_tokens": _cached(usage) - _cached(since),
    }


def _cached(usage: TokenUsage) -> int:
    return usage.text_cached + usage.audio_cached


def _input(usage: TokenUsage) -> int:
    """Return all input tokens: OpenTelemetry counts cached ones too."""
    return usage.text_in + usage.audio_in + _cached(usage)


def _output(usage: TokenUsage) -> int:
    return usage.text_out + usage.audio_out


def _direction(call: Call) -> Call.Direction:
    return Call.Direction(call.direction)


def _at(moment: datetime) -> int:
    return int(moment.timestamp() * _NS)


def _ns(seconds: float) -> int:
    return int(seconds * _NS)
