"""A Stripe in memory, in the place of the SDK's HTTP client: what it takes to subscribe.

It answers what the product asks it, in Stripe's shapes, honours idempotency keys, and says what it
does not know in Stripe's words. What customers do on Stripe's pages are methods. Tests of the order
and of the loss of steps need it small and quick; the payments sandbox is the thorough one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from threading import RLock
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe

Json = dict[str, Any]
Answer = tuple[int, Json]

_KINDS = {
    "/v1/products": ("prod", "product"),
    "/v1/prices": ("price", "price"),
    "/v1/billing/meters": ("mtr", "billing.meter"),
    "/v1/billing_portal/configurations": ("bpc", "billing_portal.configuration"),
    "/v1/billing_portal/sessions": ("bps", "billing_portal.session"),
    "/v1/webhook_endpoints": ("we", "webhook_endpoint"),
    "/v2/core/event_destinations": ("ed", "v2.core.event_destination"),
    "/v1/customers": ("cus", "customer"),
    "/v1/checkout/sessions": ("cs", "checkout.session"),
    "/v1/subscriptions": ("sub", "subscription"),
    "/v1/invoices": ("in", "invoice"),
    "/v1/invoice_payments": ("inpay", "invoice_payment"),
    "/v1/refunds": ("re", "refund"),
}


class Killed(BaseException):
    """The process dies here: nothing of ours may catch it."""


class MemoryStripe(stripe.HTTPClient):
    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.things: dict[str, Json] = {}
        self.requests: list[tuple[str, str, Json]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Called before a request is carried out; it may raise, or wait."""
        self.after: Callable[[str, str], None] = lambda method, path: None
        """Called when it was carried out, before the answer; it may raise, or wait."""
        self._answers: dict[str, tuple[Json, Answer]] = {}
        self._numbers = count(1)
        self._lock = RLock()

    def close(self) -> None:
        pass

    def request(
        self, method: str, url: str, headers: Any, post_data: Any = None, **options: Any
    ) -> tuple[str, int, dict[str, str]]:
        parts = urlsplit(url)
        if parts.path.startswith("/v2/") and post_data:
            params = json.loads(post_data)
        else:
            params = _nested(parse_qsl(post_data or parts.query, keep_blank_values=True))
        self.requests.append((method, parts.path, params))
        self.before(method, parts.path)
        with self._lock:
            status, body = self._once(
                method, parts.path, params, headers.get("Idempotency-Key") if post_data else None
            )
            text = json.dumps(body)
        self.after(method, parts.path)
        return text, status, {"Request-Id": "req_1"}

    def forget_keys(self) -> None:
        """A day passes: idempotency keys are known no more."""
        self._answers.clear()

    # What people do at Stripe.

    def all(self, kind: str) -> list[Json]:
        return [thing for thing in self.things.values() if thing["object"] == kind]

    def pay(self, session_id: str, *, status: str = "active") -> Json:
        """Pay on a checkout page; return the subscription."""
        session = self.things[session_id]
        assert session["status"] == "open", "This page is closed."
        session |= {"status": "complete", "url": None}
        prices = [self.things[item["price"]] for item in session["line_items"]]
        metadata = session["subscription_data"]["metadata"]
        return self.subscribe(session["customer"], prices, status=status, metadata=metadata)

    def subscribe(
        self, customer: str, prices: list[Json], *, status: str = "active", **fields: Any
    ) -> Json:
        subscription = self._make("/v1/subscriptions", {"customer": customer, "status": status})
        id = subscription["id"]
        items = [
            {
                "id": f"si_{id}_{n}",
                "object": "subscription_item",
                "subscription": id,
                "price": price,
            }
            for n, price in enumerate(prices)
        ]
        invoice = self._make("/v1/invoices", {"customer": customer, "status": "paid", "total": 500})
        self._make("/v1/invoice_payments", _payment_of(invoice["id"]))
        subscription |= {
            "items": {"object": "list", "data": items, "has_more": False, "url": "/v1/items"},
            "default_payment_method": "pm_1",
            "latest_invoice": invoice["id"],
            "metadata": {},
        } | fields
        return subscription

    def expire(self, session_id: str) -> None:
        self.things[session_id] |= {"status": "expired", "url": None}

    def delete_customer(self, id: str) -> None:
        self.things[id] = {"id": id, "object": "customer", "deleted": True}
        for subscription in self.all("subscription"):
            if subscription["customer"] == id:
                subscription["status"] = "canceled"

    # How requests are answered.

    def _once(self, method: str, path: str, params: Json, key: str | None) -> Answer:
        if key is None:
            return self._carry_out(method, path, params)
        if key not in self._answers:
            self._answers[key] = (
                params,
                json.loads(json.dumps(self._carry_out(method, path, params))),
            )
        known, answer = self._answers[key]
        if known != params:
            return _refusal("Keys can only be used with the same parameters.", "idempotency_error")
        return answer

    def _carry_out(self, method: str, path: str, params: Json) -> Answer:
        if path.endswith("/features"):
            return 200, _list([], path)
        if method == "post" and path == "/v1/refunds":
            return self._refund(params)
        if method == "post" and path in _KINDS:
            if (customer := params.get("customer")) and not self._has_customer(customer):
                return _missing("customer", customer)
            return 200, self._make(path, params)
        if method == "get" and path in _KINDS:
            return 200, _list(list(self._found(path, params)), path)
        enables = path.endswith("/enable")
        id = path.removesuffix("/enable").rsplit("/", 1)[1]
        thing = self.things.get(id)
        if thing is None or (thing.get("status") == "canceled" and method == "delete"):
            return _missing(path.split("/")[2], id)
        if method == "delete":
            return 200, self._end(thing)
        if method == "post":
            thing |= {"status": "enabled"} if enables else params
        return 200, thing

    def _has_customer(self, id: str) -> bool:
        return id in self.things and not self.things[id].get("deleted")

    def _make(self, path: str, params: Json) -> Json:
        prefix, kind = _KINDS[path]
        number = next(self._numbers)
        thing = {
            "id": params.get("id", f"{prefix}_{number}"),
            "object": kind,
            "created": 1_700_000_000 + number,
            "livemode": False,
            "active": True,
            "metadata": {},
        } | params
        match kind:
            case "price":
                _transfer_lookup_key(self.all("price"), thing)
                thing |= {"type": "recurring", "unit_amount": None, "nickname": None}
            case "billing.meter":
                thing["status"] = "active"
            case "customer":
                thing |= {"invoice_settings": {"default_payment_method": None}, "discount": None}
            case "checkout.session":
                thing |= {"status": "open", "url": f"https://checkout.example/{thing['id']}"}
            case "billing_portal.session":
                thing["url"] = f"https://billing.example/{thing['id']}"
            case "webhook_endpoint":
                thing["secret"] = f"whsec_{number:032}"
            case "v2.core.event_destination":
                secret = {"signing_secret": f"whsec_{number:032}"}
                thing["webhook_endpoint"] = thing["webhook_endpoint"] | secret
                thing["status"] = "enabled"
        self.things[thing["id"]] = thing
        return thing

    def _found(self, path: str, params: Json) -> Iterator[Json]:
        kind = _KINDS[path][1]
        for thing in reversed(self.all(kind)):
            keys = params.get("lookup_keys")
            if keys and thing.get("lookup_key") not in keys:
                continue
            if all(
                thing.get(name) == params[name]
                for name in ("customer", "invoice")
                if name in params
            ):
                # A secret is told once.
                yield {name: value for name, value in thing.items() if name != "secret"}

    def _end(self, thing: Json) -> Json:
        if thing["object"] == "subscription":
            thing["status"] = "canceled"
            return thing
        del self.things[thing["id"]]
        return {"id": thing["id"], "object": thing["object"], "deleted": True}

    def _refund(self, params: Json) -> Answer:
        if any(r["payment_intent"] == params["payment_intent"] for r in self.all("refund")):
            return _refusal("Charge has already been refunded.", code="charge_already_refunded")
        return 200, self._make("/v1/refunds", params)


def _transfer_lookup_key(prices: list[Json], new: Json) -> None:
    for price in prices:
        if price.get("lookup_key") == new["lookup_key"]:
            assert new.get("transfer_lookup_key") is True
            price["lookup_key"] = None


def _payment_of(invoice_id: str) -> Json:
    payment = {"type": "payment_intent", "payment_intent": f"pi_{invoice_id}"}
    return {"invoice": invoice_id, "status": "paid", "payment": payment}


def _list(things: list[Json], path: str) -> Json:
    if path.startswith("/v2/"):
        return {"data": things, "next_page_url": None, "previous_page_url": None}
    return {"object": "list", "data": things, "has_more": False, "url": path}


def _missing(kind: str, id: str) -> Answer:
    return 404, _refusal(f"No such {kind}: '{id}'", code="resource_missing")[1]


def _refusal(message: str, type: str = "invalid_request_error", **error: Any) -> Answer:
    return 400, {"error": {"type": type, "message": message, **error}}


def _nested(pairs: list[tuple[str, str]]) -> Json:
    """Return ``a[b][0]=c`` as ``{"a": {"b": ["c"]}}``."""
    result: Json = {}
    for name, value in pairs:
        *path, last = re.findall(r"[^\[\]]+", name)
        at = result
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return _typed(result)


def _typed(value: Any) -> Any:
    if not isinstance(value, dict):
        return {"true": True, "false": False}.get(value, value)
    if value and all(key.isdigit() for key in value):
        return [_typed(inner) for inner in value.values()]
    return {key: _typed(inner) for key, inner in value.items()}
