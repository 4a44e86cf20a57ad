"""Twilio's REST API for numbers, on a socket: the sandbox's, whose state a test can set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

from aiohttp import web

from sandbox.phone import rest
from sandbox.phone.exchange import Phone
from sandbox.phone.numbers import Number
from telephony.tests.twilio_stand_in import ACCOUNT_SID, AUTH_TOKEN

VOICE_URL = "https://voice.example.org/voice"
OTHERS_URL = "https://elsewhere.example.com/calls"


@dataclass
class NumbersAtTwilio:
    """``requests`` are methods and paths as they arrived."""

    phone: Phone
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)

    def give(self, phone_number: str, sid: str = ACCOUNT_SID, **fields: object) -> Number:
        known = {"voice_url": OTHERS_URL}
        return self.phone.numbers.give(Number(sid, phone_number, **known | fields))  # type: ignore[arg-type]


@contextmanager
def serving_numbers() -> Iterator[NumbersAtTwilio]:
    """Serve them from another thread until the block ends. They know one account's token."""
    phone = Phone(voice_url=VOICE_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN)
    phone.accounts.authenticate("AC" + "f" * 32, "another-token")
    there = NumbersAtTwilio(phone)
    ready, loop = Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    @web.middleware
    async def noted(request: web.Request, handler: object) -> web.StreamResponse:
        there.requests.append((request.method, request.path_qs))
        return await handler(request)  # type: ignore[operator, no-any-return]

    async def serve() -> None:
        app = web.Application(middlewares=[noted])
        rest.add_routes(app, phone)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        there.url = f"http://{host}:{port}/twilio"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert ready.wait(10)
    try:
        yield there
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
