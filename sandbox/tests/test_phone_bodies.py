"""Bodies that arrive in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from core.tests.waiting import until
from sandbox.phone.bodies import body_of


@pytest.fixture
async def response() -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Event]]:
    """A response whose second half comes once the event is set."""
    is_read = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b"<Response>")
        await is_read.wait()
        await stream.write(b"</Response>")
        return stream

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with aiohttp.ClientSession() as session, session.get(url) as got:
        yield got, is_read
    await runner.cleanup()


@pytest.mark.parametrize(
    ("most", "body"), [(1000, b"<Response></Response>"), (13, b"<Response></R")]
)
async def test_it_is_read_to_its_end_or_the_limit(
    response: tuple[aiohttp.ClientResponse, asyncio.Event], most: int, body: bytes
) -> None:
    got, is_read = response
    reading = asyncio.create_task(body_of(got, most))
    await until(lambda: got.content.total_bytes == len(b"<Response>"))
    is_read.set()
    assert await reading == body
