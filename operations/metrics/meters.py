"""The metrics that processes count. Docs: ``docs/monitoring.md`` lists all of them.

No label has an account, a number or an id. Each label has a fixed set of values, because customers
and peers could otherwise create series without end. Series whose labels are known from the start
begin at 0, so that ``increase()`` sees the first event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from core.queue import lanes
from telephony.engine.codes import MODEL_CODES, MODEL_PREFIX, CallProblem, EndedReason, ErrorCode
from telephony.models import Call, CallbackDelivery

REGISTRY = CollectorRegistry()
OTHER = "other"

# Buckets end at the limit of what is timed, and are closest where an alert or a person decides.
# onCallStart has 10 s, Twilio's webhook 15.
_BACKEND = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15)
_TURN = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10)  # over a second is felt
_TOOL = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30)  # a tool has 30 s
_REQUEST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # a page takes 0.1 s at most
_JOB = (0.05, 0.25, 1, 5, 15, 60, 300)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)  # a frame lasts 0.02 s


def _counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(f"switchhook_{name}", help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    """A gauge that gunicorn's workers add up."""
    return Gauge(f"switchhook_{name}", help, labels, registry=REGISTRY, multiprocess_mode="livesum")


def _histogram(name: str, help: str, buckets: Sequence[float], *labels: str) -> Histogram:
    return Histogram(f"switchhook_{name}", help, labels, registry=REGISTRY, buckets=buckets)


def labels_of(name: str) -> tuple[str, ...]:
    """Return the labels of a metric of ours."""
    return next(
        each._labelnames
        for each in REGISTRY._names_to_collectors.values()
        if isinstance(each, MetricWrapperBase) and each._name == name
    )


def bounded(value: str, known: Iterable[str]) -> str:
    """Return the value if it is known, or else ``other``."""
    return value if value in known else OTHER


# Calls

CALLS_IN_PROGRESS = _gauge(
    "calls_in_progress", "Calls whose media stream this engine holds at this moment."
)
CALLS_STARTED = _counter(
    "calls_started_total",
    "Inbound calls that were received and recorded, and outbound calls that were queued. Test "
    "calls count as inbound.",
    "direction",
)
CALLS_ENDED = _counter(
    "calls_ended_total",
    "Calls that ended, by their endedReason and outcome. A call that was taken for lost and went "
    "on counts twice.",
    "direction",
    "reason",
    "outcome",
)
CALL_PROBLEMS = _counter(
    "call_problems_total", "Calls that ended with an error code, by the code.", "code"
)
CALLS_RESUMED = _counter("calls_resumed_total", "Calls that had been taken for lost, and went on.")
BILLED_MINUTES = _counter("billed_minutes_total", "Minutes of ended calls that are billed.")

# Webhooks and onCallStart

CALL_START = _histogram(
    "call_start_seconds",
    "How long customers' backends took to respond to onCallStart, by what they decided or how they "
    "failed.",
    _BACKEND,
    "outcome",
)
VOICE_WEBHOOK = _histogram(
    "voice_webhook_seconds",
    "From Twilio's webhook to our TwiML, onCallStart included. Twilio waits for 15 s.",
    _BACKEND,
    "webhook",
)
VOICE_WEBHOOKS = _counter(
    "voice_webhooks_total",
    "Webhooks of Twilio that a caller waits for: ok, refused (not Twilio's), unavailable (another "
    "engine is asked), apologized (the caller heard an apology) or failed.",
    "webhook",
    "outcome",
)

# Conversations

FIRST_AUDIO = _histogram(
    "first_audio_seconds",
    "From the start of the media stream to the agent's first audio, in calls in which the agent "
    "speaks first.",
    _TURN,
)
TURN_SENT = _histogram(
    "turn_sent_seconds",
    "From the end of the caller's speech to the first audio that was sent to them, tools included.",
    _TURN,
)
TURN_HEARD = _histogram(
    "turn_heard_seconds",
    "From the end of the caller's speech to the moment when they began to hear the response, by "
    "the mark that Twilio returned. Responses that were interrupted before do not count.",
    _TURN,
)
INTERRUPTIONS = _counter("interruptions_total", "How often callers interrupted the agent.")
TOOLS = _histogram("tool_seconds", "How long tools took, by how they ended.", _TOOL, "outcome")

# The model

MODEL_READY = _histogram(
    "model_ready_seconds",
    "From the start of the media stream until OpenAI had accepted the call's configuration.",
    _TURN,
)
MODEL_CONNECTS = _counter(
    "model_connects_total",
    "Connections to OpenAI: connected, unauthorized (HTTP 401), rate_limited (429), refused "
    "(another status) or unreachable.",
    "outcome",
)
MODEL_DISCONNECTS = _counter(
    "model_disconnects_total",
    "Connections that OpenAI closed during a call, by the websocket's close code. 1006 is a "
    "connection that broke.",
    "code",
)
MODEL_ERRORS = _counter(
    "model_errors_total", "Errors that OpenAI reported during calls, by OpenAI's code.", "code"
)
MODEL_RESPONSES_FAILED = _counter(
    "model_responses_failed_total",
    "Responses that failed and were requested again, by OpenAI's code.",
    "code",
)

# Event loops and the pool

LOOP_LAG = _histogram(
    "event_loop_lag_seconds",
    "How late a timer fired that is due every 0.05 s: for so long something kept the event loop "
    "busy.",
    _LAG,
)
FRAMES_LATE = _counter(
    "frames_late_total",
    "Audio frames of callers that waited for the event loop for longer than a frame lasts "
    "(0.02 s). An estimate: the lag, in frames, times the calls in progress.",
)
POOL_SIZE = _gauge("database_pool_size", "Open connections in the pools of this process.")
POOL_MOST = _gauge("database_pool_limit", "The most connections that the pools may open.")
POOL_USED = _gauge("database_pool_used", "Connections of the pools in use when last looked at.")
POOL_WAITING = _gauge(
    "database_pool_waiting", "Threads that waited for a connection when last looked at."
)
POOL_WAITED = _counter(
    "database_pool_waited_seconds_total", "The time that threads waited for a connection in all."
)
POOL_FAILED = _counter(
    "database_pool_failed_total",
    "Requests for a connection that got none in time.",
)

# Callbacks, jobs and requests

CALLBACK_ATTEMPTS = _counter(
    "callback_attempts_total",
    "Attempts to deliver onCallEnd and onError: delivered, refused (another status), sealed (the "
    "key that encrypted it is gone), or why there was no response.",
    "kind",
    "outcome",
)
CALLBACKS = _histogram(
    "callback_seconds", "How long attempts to deliver a callback took.", _BACKEND, "kind"
)
JOBS = _counter(
    "jobs_total", "Runs of jobs: succeeded, failed for good, or to be retried.", "queue", "outcome"
)
JOB_SECONDS = _histogram("job_seconds", "How long runs of jobs took.", _JOB, "queue")
REQUESTS = _histogram(
    "http_request_seconds",
    "How long requests took until their response began, by area and class of status.",
    _REQUEST,
    "area",
    "status",
)

# Values of labels

STARTS = ("accepted", "rejected", "transferred")
START_FAILURES = tuple(code.value for code in ErrorCode if code.startswith("call_start_"))
WEBHOOKS = ("inbound", "answered", "after_stream")
WEBHOOK_OUTCOMES = ("ok", "refused", "unavailable", "apologized", "failed")
CONNECTS = ("connected", "unauthorized", "rate_limited", "refused", "unreachable")
CLOSE_CODES = tuple(
    map(str, (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013))
)
MODEL_ERROR_CODES = tuple(code.removeprefix(MODEL_PREFIX) for code in MODEL_CODES)
CALL_CODES = (*(code.value for code in (*ErrorCode, *CallProblem)), *MODEL_CODES)
TOOL_OUTCOMES = ("returned", "failed", "timeout")
FAILURES = ("timeout", "unreachable", "blocked_address", "too_large", "bad_url", "tls")
ATTEMPTS = ("delivered", "refused", "sealed", *FAILURES)
JOB_OUTCOMES = ("succeeded", "failed", "retried")
#: By the first part of a path. All others are pages.
AREAS = {
    "api": "api",
    "admin": "admin",
    "voice": "voice",
    "webhooks": "webhooks",
    "static": "static",
    "livez": "health",
    "readyz": "health",
}
PAGES = "pages"
STATUSES = ("2xx", "3xx", "4xx", "5xx")
DIRECTIONS = tuple(map(str, Call.Direction.values))
CALLBACK_KINDS = tuple(map(str, CallbackDelivery.Kind.values))
# A rejected call with an error code failed.
_ENDS: list[tuple[str, str]] = [
    *((reason.value, reason.outcome) for reason in EndedReason),
    (EndedReason.REJECTED.value, "failed"),
]


def begin_at_zero() -> None:
    """Create the series whose labels are known."""
    for direction in DIRECTIONS:
        CALLS_STARTED.labels(direction)
        for end in _ENDS:
            CALLS_ENDED.labels(direction, *end)
    for code in (*CALL_CODES, OTHER):
        CALL_PROBLEMS.labels(code)
    for outcome in (*STARTS, *START_FAILURES):
        CALL_START.labels(outcome)
    for webhook in WEBHOOKS:
        VOICE_WEBHOOK.labels(webhook)
        for outcome in WEBHOOK_OUTCOMES:
            VOICE_WEBHOOKS.labels(webhook, outcome)
    for outcome in CONNECTS:
        MODEL_CONNECTS.labels(outcome)
    for code in (*CLOSE_CODES, OTHER):
        MODEL_DISCONNECTS.labels(code)
    for code in (*MODEL_ERROR_CODES, OTHER):
        MODEL_ERRORS.labels(code)
        MODEL_RESPONSES_FAILED.labels(code)
    for outcome in TOOL_OUTCOMES:
        TOOLS.labels(outcome)
    for kind in CALLBACK_KINDS:
        CALLBACKS.labels(kind)
        for outcome in ATTEMPTS:
            CALLBACK_ATTEMPTS.labels(kind, outcome)
    for queue in lanes.PLACES:
        JOB_SECONDS.labels(queue)
        for outcome in JOB_OUTCOMES:
            JOBS.labels(queue, outcome)
    for labels in product((*dict.fromkeys(AREAS.values()), PAGES), STATUSES):
        REQUESTS.labels(*labels)
