"""Stripe for tests: the sandbox's stand-in, watched, and interrupted at any request.

What it has can be looked at, and changed into any state (``things``, ``all``, ``events``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import stripe
from django.utils import timezone

from billing.tests.metered import METER
from sandbox.payments import testing
from sandbox.payments.bodies import blank
from sandbox.payments.business import cards, checkouts
from sandbox.payments.models import KeptAnswer, MeterReading, StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.transport import SandboxClient

Json = dict[str, Any]
Answer = tuple[int, Json]

_LONG_AGO = timedelta(days=2)


class Killed(BaseException):
    """The process dies here: nothing of ours may catch it."""


@dataclass(frozen=True)
class Request:
    """As it came: ``params`` are those of the form or of the query, by their names in brackets."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]


class Counted(NamedTuple):
    """A meter event that Stripe has taken."""

    customer: str
    minutes: int
    at: int


Hook = Callable[[Request], Answer | None]


def nothing(request: Request) -> None:
    """Let a request pass."""


class WatchedStripe(stripe.HTTPClient):
    name = "watched"

    def __init__(self) -> None:
        super().__init__()
        self.things = Things()
        self.requests: list[Request] = []
        self.before: Hook = nothing
        """Called before a request is carried out; it may answer in its place, raise, or wait."""
        self.after: Hook = nothing
        """Called when it was carried out, in the place of the answer; it may raise, or wait."""
        self.is_asked = False
        """True while the stand-in, and not our code, does something."""
        self._stand_in = SandboxClient()

    def close(self) -> None:
        pass

    def request(
        self, method: str, url: str, headers: Any, post_data: Any = None, **options: Any
    ) -> Any:
        parts = urlsplit(url)
        params = dict(parse_qsl(post_data or parts.query))
        request = Request(method, parts.path, params, dict(headers))
        self.requests.append(request)
        if answer := self.before(request):
            return _as_sent(answer)
        self.is_asked = True
        try:
            real = self._stand_in.request(method, url, headers, post_data, **options)
        finally:
            self.is_asked = False
        answer = self.after(request)
        return _as_sent(answer) if answer else real

    # What is at Stripe.

    def all(self, kind: str) -> list[Thing]:
        """Return all of a kind that are not deleted, oldest first."""
        return [Thing(row.id) for row in StripeObject.objects.of(kind).order_by("serial")]

    @property
    def events(self) -> dict[str, Counted]:
        """The meter events; one that was taken again a day later has another name here."""
        found: dict[str, Counted] = {}
        for reading in MeterReading.objects.order_by("id"):
            name = reading.identifier
            while name in found:
                name += " again"
            found[name] = Counted(reading.customer_id, int(reading.value), reading.timestamp)
        return found

    def has_counted(self, identifier: str, minutes: int, at: int) -> None:
        """Let there be a meter event that was taken long ago, of which the identifier is free."""
        MeterReading.objects.create(
            identifier=identifier,
            meter_id=METER,
            customer_id="cus_1",
            value=minutes,
            timestamp=at,
            received_at=timezone.now() - _LONG_AGO,
        )

    def a_day_passes(self) -> None:
        """From then on neither identifiers nor idempotency keys are known."""
        KeptAnswer.objects.all().delete()
        MeterReading.objects.update(received_at=timezone.now() - _LONG_AGO)

    def forget_events(self) -> None:
        KeptAnswer.objects.all().delete()
        MeterReading.objects.all().delete()

    # What customers do there.

    def pay(self, session_id: str, *, status: str = "active") -> Thing:
        """Pay on a checkout page; return the subscription."""
        subscription = Thing(testing.pay(session_id)["id"])
        subscription["status"] = status
        return subscription

    def subscribe(
        self,
        customer_id: str,
        prices: list[Thing],
        *,
        status: str = "active",
        metadata: Json | None = None,
    ) -> Thing:
        """Subscribe to the prices in another way than by our checkout."""
        with writing():
            rows = [find("price", price["id"]) for price in prices]
            session = checkouts.open_session(
                customer=find("customer", customer_id),
                prices=[
                    (row, None if row["recurring"]["usage_type"] == "metered" else 1)
                    for row in rows
                ],
                subscription_data={"metadata": metadata or {}},
            )
            subscription = checkouts.complete(session, cards.card_numbered(testing.GOOD_CARD))
        thing = Thing(subscription.id)
        thing["status"] = status
        return thing


class Thing(MutableMapping[str, Any]):
    """An object at Stripe, as it is whenever it is looked at."""

    def __init__(self, id: str) -> None:
        self._rows = StripeObject.objects.filter(id=id)

    @property
    def body(self) -> Json:
        return self._rows.get().body

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(self.body)

    def __len__(self) -> int:
        return len(self.body)

    def update(self, changes: Json) -> None:  # type: ignore[override]
        self._rows.update(body=self.body | changes)


class Things:
    """Everything at Stripe, by its id."""

    def __getitem__(self, id: str) -> Thing:
        return Thing(id)

    def __setitem__(self, id: str, body: Json) -> None:
        """Let something be there that has never been made."""
        head: Json = {}
        with suppress(FileNotFoundError):  # an event has nothing that is the same for all
            head = blank(body["object"])
        StripeObject.objects.create(
            id=id,
            kind=body["object"],
            customer_id=body.get("customer", ""),
            body=head | body | {"id": id},
        )

    def __delitem__(self, id: str) -> None:
        StripeObject.objects.filter(id=id).delete()


def refusal(message: str, **error: Any) -> Answer:
    return 400, {"error": {"type": "invalid_request_error", "message": message, **error}}


def failure(status: int) -> Answer:
    return status, {"error": {"type": "api_error", "message": "Sorry."}}


def _as_sent(answer: Answer) -> tuple[str, int, dict[str, str]]:
    status, body = answer
    return json.dumps(body), status, {"Request-Id": "req_1"}
