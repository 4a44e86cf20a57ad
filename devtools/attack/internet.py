"""The servers that the product talks to: backends, Twilio, OpenAI, Stripe. All are ours."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from sandbox.model import ModelServer
from sandbox.model.server import PATH

HANDLER = Callable[[web.Request], Awaitable[web.StreamResponse]]
# The response of a backend: JSON, a raw body, or a handler's.
Answer = dict[str, Any] | list[Any] | bytes | HANDLER

HOSTS = {
    "app.example.com": "product",
    "engine.example.com": "product",
    "media.example.com": "product",
    "backend.example.com": "backends",
    "twilio.example.com": "twilio",
    "openai.example.com": "openai",
    "api.stripe.com": "stripe",
}
# A model that says nothing, and records when it hears something.
EARS = "gpt-realtime-ears"


@dataclass
class Desk:
    """The backend of one number: its responses, and the requests it received."""

    key: str
    answer: Answer = field(default_factory=dict)
    tool: Answer = field(default_factory=lambda: {"result": "done"})
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    webhook_ids: list[str] = field(default_factory=list)  # of the received callbacks
    report: HANDLER | None = None  # for onCallEnd and onError; None: accept all

    def to(self, name: str) -> list[dict[str, Any]]:
        return [body for kind, body in self.received if kind == name]

    def urls(self) -> dict[str, str]:
        base = f"https://backend.example.com/{self.key}"
        names = {"onCallStartUrl": "start", "onCallEndUrl": "end", "onErrorUrl": "error"}
        return {name: f"{base}/{last}" for name, last in names.items()}

    @property
    def tool_url(self) -> str:
        return f"https://backend.example.com/{self.key}/tool"


class Internet:
    def __init__(self) -> None:
        self.desks: dict[str, Desk] = {}
        self.orders: list[dict[str, str]] = []  # of calls, as Twilio received them
        self.updates: list[dict[str, str]] = []
        self.heard: dict[str, list[float]] = {}  # by API key: the arrival times of frames
        self.stripe: list[tuple[str, str]] = []
        self.metered: dict[str, tuple[str, int]] = {}  # by identifier: customer and minutes
        self.on_stripe: Callable[[str, str], None] = lambda method, path: None
        self.ports: dict[str, int] = {}
        self._runners: list[web.AppRunner] = []

    async def start(self) -> dict[str, int]:
        """Listen; return the port of each server."""
        apps = {
            "backends": self._backends(),
            "twilio": self._twilio(),
            "openai": self._openai(),
            "stripe": self._stripe(),
        }
        self.ports = {name: await self._listen(app) for name, app in apps.items()}
        return self.ports

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    def desk(self, answer: Answer | None = None) -> Desk:
        desk = Desk(secrets.token_hex(6), answer if answer is not None else {})
        self.desks[desk.key] = desk
        return desk

    def order_of(self, call_sid: str) -> dict[str, str]:
        return next(order for order in self.orders if order["CallSid"] == call_sid)

    async def _listen(self, app: web.Application) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    # Backends

    def _backends(self) -> web.Application:
        app = web.Application(client_max_size=4 << 20)
        app.router.add_post("/{key}/{name}", self._callback)
        return app

    async def _callback(self, request: web.Request) -> web.StreamResponse:
        desk = self.desks.get(request.match_info["key"])
        if desk is None:
            return web.Response(status=404)
        name = request.match_info["name"]
        body = await request.read()
        if desk.report is not None and name not in ("start", "tool"):
            refused = await desk.report(request)
            if refused.status >= 300:
                return refused
        with suppress(orjson.JSONDecodeError):
            desk.received.append((name, orjson.loads(body)))
            desk.webhook_ids.append(request.headers.get("webhook-id", ""))
        if name not in ("start", "tool"):
            return web.Response(status=204)
        answer = desk.answer if name == "start" else desk.tool
        if callable(answer):
            return await answer(request)
        said = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        return web.Response(body=said, content_type="application/json")

    # Twilio's REST API, which accepts every order and does nothing

    def _twilio(self) -> web.Application:
        app = web.Application()
        calls = "/2010-04-01/Accounts/{account}/Calls"
        app.router.add_post(f"{calls}.json", self._order)
        app.router.add_route("*", f"{calls}/{{call}}.json", self._update)
        return app

    async def _order(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        account, sid = request.match_info["account"], f"CA{secrets.token_hex(16)}"
        self.orders.append({**form, "CallSid": sid, "AccountSid": account})
        return web.json_response(_resource(account, sid, "queued"), status=201)

    async def _update(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        account, sid = request.match_info["account"], request.match_info["call"]
        self.updates.append({**form, "CallSid": sid})
        return web.json_response(_resource(account, sid, form.get("Status", "in-progress")))

    # OpenAI's realtime API

    def _openai(self) -> web.Application:
        app = web.Application()
        outer = web.Application()
        ModelServer(key=None).add_routes(app)
        inner = app

        async def route(request: web.Request) -> web.StreamResponse:
            if request.query.get("model") == EARS:
                return await self._ears(request)
            match = await inner.router.resolve(request)
            return await match.handler(request)

        outer.router.add_get(PATH, route)
        return outer

    async def _ears(self, request: web.Request) -> web.WebSocketResponse:
        heard = self.heard.setdefault(request.headers["Authorization"].split()[-1], [])
        socket = web.WebSocketResponse(compress=False, timeout=1)
        await socket.prepare(request)
        await socket.send_json({"type": "session.created", "session": {"type": "realtime"}})
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            if message.data.startswith('{"type":"input_audio_buffer.append"'):
                heard.append(time.monotonic())
            elif "session.update" in message.data[:60]:
                updated = {"type": "session.updated", "session": {"type": "realtime"}}
                await socket.send_json(updated)
        return socket

    # Stripe, which is down except for ending subscriptions and metering their minutes

    def _stripe(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._ask_stripe)
        return app

    async def _ask_stripe(self, request: web.Request) -> web.Response:
        method, path = request.method, request.path
        self.stripe.append((method, path))
        self.on_stripe(method, path)
        if path == "/v1/subscriptions" and method == "GET":
            customer = request.query.get("customer", "")
            return web.json_response(_list([_subscription(customer)], path))
        if path.startswith("/v1/subscriptions/sub_"):
            customer = path.rpartition("/")[2].replace("sub_", "cus_")
            status = "canceled" if method == "DELETE" else "active"
            return web.json_response(_subscription(customer) | {"status": status})
        if path == "/v1/billing/meter_events":
            form = await request.post()
            identifier = str(form.get("identifier"))
            names = ("payload[stripe_customer_id]", "payload[value]")
            of_customer, minutes = (str(form.get(name)) for name in names)
            self.metered[identifier] = (of_customer, int(minutes))
            return web.json_response({"object": "billing.meter_event", "identifier": identifier})
        if path.startswith("/v1/customers/") and method == "GET":
            return web.json_response(_customer(path.rpartition("/")[2]))
        if path in ("/v1/products", "/v1/prices") or path.endswith("/features"):
            return web.json_response(_list([], path))
        if path.startswith("/v1/products/") and method == "GET":
            return web.json_response(_product(path.rpartition("/")[2]))
        error = {"type": "api_error", "message": "It is closed."}
        headers = {"Stripe-Should-Retry": "false"}
        return web.json_response({"error": error}, status=503, headers=headers)


def _resource(account: str, sid: str, status: str) -> dict[str, Any]:
    """Return a call in the format of Twilio's libraries."""
    return {
        "sid": sid,
        "account_sid": account,
        "status": status,
        "api_version": "2010-04-01",
        "uri": f"/2010-04-01/Accounts/{account}/Calls/{sid}.json",
        "date_created": None,
        "start_time": None,
        "end_time": None,
        "duration": None,
        "price": None,
    }


def _list(things: list[Any], url: str) -> dict[str, Any]:
    return {"object": "list", "url": url, "has_more": False, "data": things}


def _customer(id: str) -> dict[str, Any]:
    created = int(time.time()) - 86_400
    return {"id": id, "object": "customer", "created": created, "metadata": {}, "email": None}


def _product(id: str) -> dict[str, Any]:
    created = int(time.time()) - 86_400
    return {"id": id, "object": "product", "created": created, "name": id, "type": "service"}


def _price(id: str, product: str, recurring: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": id,
        "object": "price",
        "product": product,
        "recurring": recurring,
        "created": int(time.time()) - 86_400,
        "active": True,
        "billing_scheme": "per_unit",
        "currency": "usd",
        "type": "recurring",
        "unit_amount": 100,
        "unit_amount_decimal": "100",
    }


def _subscription(customer: str) -> dict[str, Any]:
    now = int(time.time())
    period = {"current_period_start": now - 86_400, "current_period_end": now + 86_400}
    month = {"usage_type": "licensed", "interval": "month", "meter": None}
    minutes = {"usage_type": "metered", "interval": "month", "meter": "mtr_attack"}
    prices: list[tuple[str, str, dict[str, Any]]] = [
        ("base", "switchhook", month),
        ("minute", "switchhook_minutes", minutes),
    ]
    items = [
        {
            "id": f"si_{name}_{customer}",
            "created": now - 86_400,
            "quantity": 1,
            "subscription": customer.replace("cus_", "sub_"),
            "object": "subscription_item",
            "price": _price(f"price_{name}", product, recurring),
            **period,
        }
        for name, product, recurring in prices
    ]
    return {
        "id": customer.replace("cus_", "sub_"),
        "object": "subscription",
        "customer": customer,
        "status": "active",
        "created": now - 86_400,
        "start_date": now - 86_400,
        "billing_cycle_anchor": now - 86_400,
        "ended_at": None,
        "cancel_at": None,
        "canceled_at": None,
        "latest_invoice": None,
        "metadata": {},
        "items": _list(items, "/v1/subscription_items"),
    }


async def until(is_so: Callable[[], object], *, within: float = 10.0, every: float = 0.1) -> bool:
    """Wait until a condition is true; return False on timeout."""
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True
