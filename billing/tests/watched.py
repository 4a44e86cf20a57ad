"""Stripe for tests: the sandbox's stand-in, watched, and interrupted at any request.

What it has can be looked at, and changed into any state (``things``, ``all``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import stripe

from sandbox.payments import testing
from sandbox.payments.bodies import blank
from sandbox.payments.business import cards, checkouts
from sandbox.payments.models import KeptAnswer, StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.transport import SandboxClient
from sandbox.payments.wire import forms

Json = dict[str, Any]


class Killed(BaseException):
    """The process dies here: nothing of ours may catch it."""


class WatchedStripe(stripe.HTTPClient):
    name = "watched"

    def __init__(self) -> None:
        super().__init__()
        self.things = Things()
        self.requests: list[tuple[str, str, Json]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Called before a request is carried out; it may raise, or wait."""
        self.after: Callable[[str, str], None] = lambda method, path: None
        """Called when it was carried out, before the answer; it may raise, or wait."""
        self._stand_in = SandboxClient()

    def close(self) -> None:
        pass

    def request(
        self, method: str, url: str, headers: Any, post_data: Any = None, **options: Any
    ) -> Any:
        path = urlsplit(url).path
        self.requests.append((method, path, forms.decode(post_data or "")))
        self.before(method, path)
        answer = self._stand_in.request(method, url, headers, post_data, **options)
        self.after(method, path)
        return answer

    def forget_keys(self) -> None:
        """A day passes: idempotency keys are known no more."""
        KeptAnswer.objects.all().delete()

    def all(self, kind: str) -> list[Thing]:
        """Return all of a kind that are not deleted, oldest first."""
        return [Thing(row.id) for row in StripeObject.objects.of(kind).order_by("serial")]

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
        StripeObject.objects.create(
            id=id,
            kind=body["object"],
            customer_id=body.get("customer", ""),
            body=blank(body["object"]) | body | {"id": id},
        )

    def __delitem__(self, id: str) -> None:
        StripeObject.objects.filter(id=id).delete()
