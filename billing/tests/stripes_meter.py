"""A Stripe that knows meters and nothing else, in the place of the SDK's HTTP client."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import stripe

Answer = tuple[int, dict[str, Any]]


@dataclass
class Request:
    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]


@dataclass
class Counted:
    customer: str
    minutes: int
    at: int


@dataclass
class StripesMeter(stripe.HTTPClient):
    """Counts meter events as Stripe does: an identifier once, and an answer once for each key."""

    events: dict[str, Counted] = field(default_factory=dict)
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    before: Callable[[Request], Answer | None] = lambda request: None
    """Called before a request is carried out; it may answer in its place, or raise."""
    after: Callable[[Request], Answer | None] = lambda request: None
    """Called when it was carried out, in the place of the answer; or it may raise."""

    name = "stand-in"

    def __post_init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()
        self._answers: dict[str, tuple[dict[str, str], Answer]] = {}
        self._lock = Lock()

    def a_day_passes(self) -> None:
        """From then on neither identifiers nor idempotency keys are known."""
        self._known.clear()
        self._answers.clear()

    def forget_all(self) -> None:
        self.events.clear()
        self.a_day_passes()

    def has_counted(self, identifier: str, minutes: int, at: int) -> None:
        """Let an event be there that it has taken long ago, and does not know any more."""
        self.events[identifier] = Counted("cus_1", minutes, at)

    def request(
        self, method: str, url: str, headers: Any, post_data: Any = None, **options: Any
    ) -> tuple[str, int, dict[str, str]]:
        parts = urlsplit(url)
        params = {name: values[-1] for name, values in parse_qs(post_data or parts.query).items()}
        request = Request(method, parts.path, params, dict(headers))
        self.requests.append(request)
        status, body = self.before(request) or self._carry_out(request)
        status, body = self.after(request) or (status, body)
        return json.dumps(body), status, {"Request-Id": "req_1"}

    def close(self) -> None:
        pass

    def _carry_out(self, request: Request) -> Answer:
        with self._lock:
            key = request.headers.get("Idempotency-Key", "")
            if key in self._answers:
                params, answer = self._answers[key]
                if params == request.params:
                    return answer
                return 400, {"error": {"type": "idempotency_error", "message": "Other parameters"}}
            answer = self._answer(request)
            if key:
                self._answers[key] = request.params, answer
            return answer

    def _answer(self, request: Request) -> Answer:
        if request.path == "/v1/billing/meter_events":
            return self._count(request.params)
        if request.path == "/v1/billing/meters/mtr_1/event_summaries":
            return self._summary(request.params)
        if match := re.fullmatch("/v1/subscriptions/(sub_.+)", request.path):
            return _found(self.subscriptions, match[1])
        if match := re.fullmatch("/v2/core/events/(evt_.+)", request.path):
            return _found(self.reports, match[1])
        raise AssertionError(request)

    def _count(self, params: dict[str, str]) -> Answer:
        identifier = params["identifier"]
        if identifier in self._known:
            return refusal(f"An event already exists with identifier {identifier}.")
        self._known.add(identifier)
        minutes, at = int(params["payload[value]"]), int(params["timestamp"])
        while identifier in self.events:  # which happens after a day
            identifier += " again"
        self.events[identifier] = Counted(params["payload[stripe_customer_id]"], minutes, at)
        return 200, {"object": "billing.meter_event", "identifier": identifier}

    def _summary(self, params: dict[str, str]) -> Answer:
        start, end = int(params["start_time"]), int(params["end_time"])
        assert start % 60 == end % 60 == 0
        counted = [
            event.minutes
            for event in self.events.values()
            if event.customer == params["customer"] and start <= event.at < end
        ]
        summary = {"object": "billing.meter_event_summary", "aggregated_value": float(sum(counted))}
        data = [{"id": "mtrusg_1", **summary}] if counted else []
        url = "/v1/billing/meters/mtr_1/event_summaries"
        return 200, {"object": "list", "data": data, "has_more": False, "url": url}


def refusal(message: str, **error: Any) -> Answer:
    return 400, {"error": {"type": "invalid_request_error", "message": message, **error}}


def failure(status: int) -> Answer:
    return status, {"error": {"type": "api_error", "message": "Sorry."}}


def _found(things: dict[str, dict[str, Any]], id: str) -> Answer:
    if id in things:
        return 200, things[id]
    return 404, refusal(f"No such thing: {id}", code="resource_missing")[1]
