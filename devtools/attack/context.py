"""The context of every area: the product, the services around it, and the report."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psycopg
from psycopg.sql import Composed

from devtools.attack.internet import Internet
from devtools.attack.mailbox import Mailbox
from devtools.attack.people import Line, Person
from devtools.attack.product import Product
from devtools.attack.report import Notes, Report
from devtools.attack.tls_proxy import TlsProxy
from devtools.attack.voice import CALLER, LiveCall, answer_outbound, new_call_sid, read, ring
from devtools.attack.web import Answer, Browser, Client


class Canaries(set[str]):
    """The secrets of this run, which must not be in a log."""

    def add(self, *secrets: str) -> None:
        self.update(secret for secret in secrets if len(secret) >= 8)


@dataclass
class Context:
    product: Product
    internet: Internet
    tls_proxy: TlsProxy
    mailbox: Mailbox
    session: aiohttp.ClientSession
    web: Client
    engine: Client
    second_engine: Client
    report: Report
    random: random.Random
    is_short: bool
    is_apart: bool  # in a network of its own
    people: dict[str, Person] = field(default_factory=dict)
    canaries: Canaries = field(default_factory=Canaries)
    late: list[asyncio.Task[None]] = field(default_factory=list)

    def notes(self, area: str) -> Notes:
        return Notes(area, self.report)

    async def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database for what the API does not return."""
        url = self.product.environment["DATABASE_URL"]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            return await (await connection.execute(statement, values)).fetchall()

    async def execute(self, statement: Composed, *values: object) -> None:
        url = self.product.environment["DATABASE_URL"]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(statement, values)

    async def api(
        self, person: Person, method: str, path: str, body: Any = None, **options: Any
    ) -> Answer:
        return await self.web.ask(method, path, body=body, token=person.key, **options)

    async def browser(self, person: Person) -> Browser:
        """Return the browser of a person who has signed in."""
        browser = Browser(self.web)
        await browser.log_in(person.email, person.password, person.codes)
        self.canaries.add(browser.cookies.get("sessionid", ""))
        return browser

    async def live_call(self, line: Line, **options: Any) -> LiveCall:
        """Place an inbound call to a line, and connect it."""
        sid = new_call_sid()
        answer = await ring(self.engine, to=line.number, account=line.twilio, call_sid=sid)
        return await self.connected(line, sid, answer, **options)

    async def placed_call(self, line: Line, **options: Any) -> tuple[LiveCall, dict[str, str]]:
        """Place an outbound call that is answered; return the order at Twilio too."""
        order = await self.order(line)
        answer = await answer_outbound(self.engine, order, line.twilio)
        return await self.connected(line, order["CallSid"], answer, **options), order

    async def order(self, line: Line, to: str = CALLER) -> dict[str, str]:
        """Place an outbound call; return the order that Twilio received."""
        answer = await self.ask_for_call(line, to)
        if answer.status != 201:
            raise NotConnected(f"{line.number} could not call: {answer}")
        order = self.internet.order_of(answer.json["callSid"])
        self.canaries.add(token_of(order["Url"]), token_of(order["StatusCallback"]))
        return order

    async def ask_for_call(self, line: Line, to: str = CALLER, **changes: Any) -> Answer:
        body = {
            "from": line.number,
            "to": to,
            "twilioAccountSid": line.twilio.sid,
            "twilioAuthToken": line.twilio.token,
            **line.desk.urls(),
            **changes,
        }
        return await self.api(line.person, "POST", "/api/outbound", body)

    async def connected(
        self, line: Line, call_sid: str, answer: Answer, **options: Any
    ) -> LiveCall:
        """Open the media socket that the response names; raise if it names none."""
        told = read(answer)
        if not told.connects:
            raise NotConnected(f"{line.number} was not connected: {answer}")
        self.canaries.add(told.ticket.partition(".")[2], *map(token_of, told.links.values()))
        return await LiveCall.connect(self.session, line.twilio, call_sid, told, **options)

    async def call(self, person: Person, reference: str) -> dict[str, Any]:
        """Return a call from the API, or {} if there is none."""
        answer = await self.api(person, "GET", f"/api/calls/{reference}")
        return dict(answer.json["call"]) if answer.status == 200 else {}

    def later(self, case: Coroutine[Any, Any, None]) -> None:
        """Run a case that waits for long beside all others."""
        self.late.append(asyncio.create_task(case))


class NotConnected(Exception):
    """A call that should have been accepted was not."""


def token_of(link: str) -> str:
    return link.rpartition("/")[2]
