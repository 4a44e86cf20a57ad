"""``manage.py demo``: the demo that ``bin/demo`` shows once everything runs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, TextIO, cast

import aiohttp
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Account
from core.queue.jobs import defer
from sandbox.demo import checks
from sandbox.demo.calls import FollowedCall, TwoCalls, outbound_body
from sandbox.demo.console import Console
from sandbox.demo.customer import EMAIL, PASSWORD, set_up
from sandbox.demo.payment import UPCOMING, invoice_with
from sandbox.demo.telling import tell, tell_cost, tell_transcript
from sandbox.demo.wire import DemoFailed, Wire

OPERATOR_EMAIL = "operator@example.com"
OPERATOR_PASSWORD = "runs-the-switchboard"  # noqa: S105 (of an account on this machine alone)

_INTRODUCTION = """\
Switchhook answers a company's phone with an AI that the company's own backend instructs. The
company here is Rosa's Kitchen, a restaurant. What is outside Switchhook runs on this machine for
now: a phone network that speaks Twilio's protocol, a model that speaks OpenAI's, payments that
speak Stripe's, and the restaurant's backend. They talk over real sockets, in real time, as the real
ones would.
"""


class Command(BaseCommand):
    help = "Place one inbound and one outbound call in the running sandbox, and tell the story."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="the server is stopped after that")

    def handle(self, *_args: Any, once: bool, **_options: Any) -> None:
        console = Console(cast("TextIO", self.stdout._out))
        try:
            asyncio.run(_demo(console, once=once))
        except aiohttp.ClientError as error:
            raise CommandError(f"Something does not answer: {error}") from None
        except DemoFailed as error:
            raise CommandError(str(error)) from None


async def _demo(console: Console, *, once: bool) -> None:
    console.text(_INTRODUCTION, indent=0)
    browser = aiohttp.CookieJar(unsafe=True)  # keeps the cookies of an IP address too
    async with aiohttp.ClientSession(cookie_jar=browser) as session:
        api = Wire(session, settings.PUBLIC_URL)
        sandbox = Wire(session, f"http://127.0.0.1:{settings.SANDBOX_PORT}")

        console.heading("1. The restaurant signs up and pays")
        key, number = await set_up(api, sandbox, console)
        _, before = await api.ask("GET", "/api/usage/current")
        _, invoice = await api.ask("GET", UPCOMING)

        async with TwoCalls(api, sandbox, number) as (inbound, outbound):
            console.heading("2. Somebody calls the restaurant")
            await tell(inbound, console, person="Caller")
            _tell_outcome(console, inbound, person="Caller")

            console.heading("3. Meanwhile the restaurant has Switchhook call a guest")
            await tell(outbound, console, person="Callee")
            _tell_outcome(console, outbound, person="Callee")

        verdicts = [*checks.check_inbound(inbound), *checks.check_outbound(outbound)]
        console.heading("4. What the restaurant's account says: GET /api/usage")
        verdicts += await _usage(api, console, {"inbound": inbound, "outbound": outbound}, before)

        console.heading(f"5. What Stripe is going to charge: GET {UPCOMING}")
        verdicts.append(await _invoice(api, console, [inbound, outbound], invoice["amount"]))

    console.heading("Checked")
    for text, is_fine in verdicts:
        console.check(text, is_fine=is_fine)
    if not all(is_fine for _, is_fine in verdicts):
        raise DemoFailed("Not all of it happened.")
    if not once:
        await _make_operator()
        _tell_how_to_go_on(console, key, number, sandbox.base)


def _tell_outcome(console: Console, call: FollowedCall, *, person: str) -> None:
    console.gap()
    console.text("The transcript that the backend was sent:")
    tell_transcript(call, console, person=person)
    tell_cost(call, console)


async def _usage(
    api: Wire, console: Console, calls: dict[str, FollowedCall], before: dict[str, Any]
) -> list[checks.Check]:
    _, page = await api.ask("GET", "/api/usage?limit=100")
    verdicts: list[checks.Check] = []
    for name, call in calls.items():
        records = [record for record in page["records"] if record["callSid"] == call.sid]
        for record in records:
            console.json(record, indent=2)
        verdicts.append(checks.check_usage(call, records, name=name))
    _, after = await api.ask("GET", "/api/usage/current")
    console.text("This month, from GET /api/usage/current:")
    console.json(after, indent=2)
    more = after["allTime"]["calls"] - before["allTime"]["calls"]
    return [*verdicts, ("The account's totals went up by these two calls.", more == len(calls))]


async def _invoice(
    api: Wire, console: Console, calls: list[FollowedCall], before: float
) -> checks.Check:
    await sync_to_async(_meter_now)()
    charged = sum(call.platform_cost for call in calls)
    invoice = await invoice_with(api, before + charged)
    console.json(invoice, indent=2)
    return checks.check_invoice(before, charged, invoice["amount"])


def _meter_now() -> None:
    """Have a worker run its job for every minute now."""
    defer("billing.metering.tasks.meter_usage", only_one="meter_usage", timestamp=int(time.time()))


@sync_to_async
def _make_operator() -> None:
    if not Account.objects.filter(email=OPERATOR_EMAIL).exists():
        Account.objects.create_superuser(OPERATOR_EMAIL, OPERATOR_PASSWORD)


def _tell_how_to_go_on(console: Console, key: str, number: str, sandbox: str) -> None:
    call = {
        "to": number,
        "script": [
            {"until_connected": True},
            {"listen": 4},
            {"say": "Book a table for 4 at 19:30, please."},
            {"listen": True},
            {"say": "Goodbye."},
            {"listen": True},
        ],
    }
    console.heading(f"Switchhook runs on: {settings.PUBLIC_URL} (Ctrl-C ends it)")
    console.row("Operator", f"{settings.PUBLIC_URL}/admin/  {OPERATOR_EMAIL}  {OPERATOR_PASSWORD}")
    console.row("Customer", f"{EMAIL}  {PASSWORD}  {key}")
    console.row("Backend", f"{sandbox}/backend/  (what it was told)")
    console.row("Payments", f"{settings.PUBLIC_URL}/sandbox/payments/  (cards, clocks, invoices)")
    console.gap()
    console.text("Another caller:")
    console.command("curl", "-N", f"{sandbox}/phone/calls", "-d", json.dumps(call))
    console.text("Another call to a guest:")
    console.command(
        "curl",
        f"{settings.PUBLIC_URL}/api/outbound",
        *("-H", f"Authorization: Bearer {key}"),
        *("-H", "Content-Type: application/json"),
        *("-d", json.dumps(outbound_body(number, sandbox))),
    )
