"""Measures what this process does: subscribes to facts, and watches its event loop and its pool."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, connections
from prometheus_client.values import ValueClass

from core.middleware import RequestAnswered
from core.observers import observe_all
from core.queue.worker import JobEnded
from operations.metrics import meters
from operations.metrics.meters import bounded
from telephony import facts
from telephony.engine.codes import EventKind, outcome_of

log = structlog.get_logger(__name__)

# Often enough to meet every pause that a caller can hear. Each tick wakes an idle engine.
TICK_S = 0.05
_FRAME_S = 0.02
_LOOK_EVERY_S = 5.0

_held: set[str] = set()  # the ids of the calls that this process holds


def measure() -> None:
    """Subscribe to what happens in this process, and watch its pool. Call it once."""
    if not getattr(ValueClass, "_multiprocess", False):
        raise RuntimeError("prometheus_client was imported before export() chose a folder.")
    subscribe()
    threading.Thread(target=_watch_pool, name="metrics", daemon=True).start()


def subscribe() -> Callable[[], None]:
    """Count what observers are told; return the function that ends this."""
    meters.begin_at_zero()
    return observe_all(_OBSERVERS)


# Calls


def _call_started(fact: facts.CallStarted) -> None:
    meters.CALLS_STARTED.labels(fact.call.direction).inc()


def _webhook_answered(fact: facts.WebhookAnswered) -> None:
    webhook = bounded(fact.webhook, meters.WEBHOOKS)
    meters.VOICE_WEBHOOK.labels(webhook).observe(fact.seconds)
    meters.VOICE_WEBHOOKS.labels(webhook, _webhook_outcome(fact)).inc()


def _webhook_outcome(fact: facts.WebhookAnswered) -> str:
    if fact.apologized:
        return "apologized"
    if fact.status == 503:
        return "unavailable"
    if fact.status >= 500:
        return "failed"
    return "refused" if fact.status >= 400 else "ok"


def _call_start_asked(fact: facts.CallStartAsked) -> None:
    outcome = bounded(fact.outcome, (*meters.STARTS, *meters.START_FAILURES))
    meters.CALL_START.labels(outcome).observe(fact.seconds)


def _call_held(fact: facts.CallHeld) -> None:
    _held.add(fact.call.id)
    meters.CALLS_IN_PROGRESS.set(len(_held))


def _call_released(fact: facts.CallReleased) -> None:
    _held.discard(fact.call.id)
    meters.CALLS_IN_PROGRESS.set(len(_held))


def _call_ended(fact: facts.CallEnded) -> None:
    call = fact.call
    outcome = outcome_of(call.ended_reason, call.error_code)
    meters.CALLS_ENDED.labels(call.direction, call.ended_reason, outcome).inc()
    if call.error_code:
        meters.CALL_PROBLEMS.labels(bounded(call.error_code, meters.CALL_CODES)).inc()
    if fact.record is not None:
        meters.BILLED_MINUTES.inc(fact.record.minutes)


def _call_resumed(fact: facts.CallResumed) -> None:
    meters.CALLS_RESUMED.inc()


# The model and the conversation


def _model_connected(fact: facts.ModelConnected) -> None:
    named = {401: "unauthorized", 429: "rate_limited"}
    outcome = named.get(fact.status or 0, fact.outcome)
    meters.MODEL_CONNECTS.labels(bounded(outcome, meters.CONNECTS)).inc()


def _model_disconnected(fact: facts.ModelDisconnected) -> None:
    meters.MODEL_DISCONNECTS.labels(bounded(str(fact.code), meters.CLOSE_CODES)).inc()


def _noted(fact: facts.Noted) -> None:
    detail = fact.detail
    match fact.kind:
        case EventKind.GREETED:
            meters.FIRST_AUDIO.observe(detail["ms"] / 1000)
        case EventKind.AGENT_SPOKE:
            meters.TURN_SENT.observe(detail["latencyMs"] / 1000)
        case EventKind.AGENT_HEARD:
            meters.TURN_HEARD.observe(detail["latencyMs"] / 1000)
        case EventKind.INTERRUPTED:
            meters.INTERRUPTIONS.inc()
        case EventKind.MODEL_READY:
            meters.MODEL_READY.observe(detail["ms"] / 1000)
        case EventKind.TOOL_RETURNED | EventKind.TOOL_FAILED | EventKind.TOOL_TIMEOUT:
            meters.TOOLS.labels(fact.kind.removeprefix("tool_")).observe(detail["ms"] / 1000)
        case EventKind.MODEL_ERROR:
            meters.MODEL_ERRORS.labels(_model_code(detail)).inc()
        case EventKind.RESPONSE_FAILED:
            meters.MODEL_RESPONSES_FAILED.labels(_model_code(detail)).inc()


def _model_code(detail: Any) -> str:
    return bounded(str(detail.get("code")), meters.MODEL_ERROR_CODES)


# Callbacks, jobs, requests


def _callback_sent(fact: facts.CallbackSent) -> None:
    result = fact.result
    if result.delivered:
        outcome = "delivered"
    elif not result.was_sent:
        outcome = "sealed"
    else:
        outcome = "refused" if result.status else bounded(result.text, meters.FAILURES)
    meters.CALLBACK_ATTEMPTS.labels(fact.kind, outcome).inc()
    meters.CALLBACKS.labels(fact.kind).observe(result.duration_ms / 1000)


def _job_ended(fact: JobEnded) -> None:
    meters.JOBS.labels(fact.queue, fact.outcome).inc()
    meters.JOB_SECONDS.labels(fact.queue).observe(fact.seconds)


def _request_answered(fact: RequestAnswered) -> None:
    first = fact.path.partition("?")[0].lstrip("/").partition("/")[0]
    area = meters.AREAS.get(first, meters.PAGES)
    status = bounded(f"{fact.status // 100}xx", meters.STATUSES)
    meters.REQUESTS.labels(area, status).observe(fact.seconds)


_OBSERVERS: dict[type[Any], Callable[[Any], None]] = {
    facts.CallStarted: _call_started,
    facts.WebhookAnswered: _webhook_answered,
    facts.CallStartAsked: _call_start_asked,
    facts.CallHeld: _call_held,
    facts.CallReleased: _call_released,
    facts.CallEnded: _call_ended,
    facts.CallResumed: _call_resumed,
    facts.ModelConnected: _model_connected,
    facts.ModelDisconnected: _model_disconnected,
    facts.Noted: _noted,
    facts.CallbackSent: _callback_sent,
    JobEnded: _job_ended,
    RequestAnswered: _request_answered,
}


# The event loop


def measure_loop() -> None:
    """Measure the running event loop until it ends."""
    _Ticker(asyncio.get_running_loop())


class _Ticker:
    """A timer that fires 20 times a second, however many calls there are.

    What delays it delays the frames of each of them as well, so nothing has to be done for each
    frame.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._schedule()

    def _schedule(self) -> None:
        # uvloop's own time stands still while callbacks run.
        self._due = time.monotonic() + TICK_S
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        meters.LOOP_LAG.observe(lag)
        if lag > _FRAME_S and _held:
            meters.FRAMES_LATE.inc(int(lag / _FRAME_S) * len(_held))
        self._schedule()


# The pool


def _watch_pool() -> None:
    """Copy the pool's figures, repeatedly."""
    before = {"requests_wait_ms": 0, "requests_errors": 0}
    while True:
        try:
            now = _look_at_pool()
            meters.POOL_WAITED.inc((now["requests_wait_ms"] - before["requests_wait_ms"]) / 1000)
            meters.POOL_FAILED.inc(now["requests_errors"] - before["requests_errors"])
            before = now
        except Exception as error:
            log.warning("pool_not_measured", error=type(error).__name__)
        time.sleep(_LOOK_EVERY_S)


def _look_at_pool() -> dict[str, int]:
    # ``connections`` has a connection for each thread, and the pool belongs to all of them.
    pool = connections[DEFAULT_DB_ALIAS].pool  # type: ignore[attr-defined]
    stats = {"requests_wait_ms": 0, "requests_errors": 0, **pool.get_stats()}
    meters.POOL_MOST.set(stats["pool_max"])
    meters.POOL_SIZE.set(stats["pool_size"])
    meters.POOL_USED.set(stats["pool_size"] - stats["pool_available"])
    meters.POOL_WAITING.set(stats["requests_waiting"])
    return stats
