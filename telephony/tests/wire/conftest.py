"""The engine between a telephone network, a realtime model and a customer's backend.

Everything runs over real sockets of this machine: Django behind an HTTP server, the media listener,
the stand-ins. The phone's time runs ten times as fast as the clock.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from django.core.asgi import get_asgi_application
from django.db import connection
from procrastinate.contrib.django import app as jobs

from accounts.models import Account
from sandbox.model import ModelServer, Script, serve_model
from sandbox.phone.call import Call as PhoneCall
from sandbox.phone.exchange import Phone
from sandbox.phone.rest import add_routes
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER, running
from telephony.callbacks import client
from telephony.db import in_database
from telephony.models import Call, PhoneNumber
from telephony.tests.wire.backend import Backend, serve_backend
from telephony.voice.media import MediaListener

OPENAI_KEY = "sk-of-a-test"
SPEED = 10.0
# Who is called by outbound calls.
CALLEE = "+15559876543"


class World:
    """The parts that a test works with."""

    def __init__(
        self, *, account: Account, backend: Backend, phone: Phone, media: MediaListener
    ) -> None:
        self.account = account
        self.backend = backend
        self.phone = phone
        self.media = media
        self.media_port = media.port

    def ring(self, **options: Any) -> PhoneCall:
        return self.phone.ring(to=NUMBER, **options)

    async def greeted(self, **options: Any) -> PhoneCall:
        """Place a call, and wait for the agent's greeting."""
        ringing = self.ring(**options)
        await ringing.person.hears("Hello.")
        return ringing

    async def hang_up(self, ringing: PhoneCall) -> Call:
        """Hang up as the caller; return our record of the call."""
        ringing.person.hang_up()
        return await self.over(ringing)

    async def over(self, ringing: PhoneCall) -> Call:
        """Wait until the phone's call has ended and no engine holds it; return our record."""
        await ringing.journal.wait_for("ended", within=20)
        async with asyncio.timeout(10):
            await self.media.calls.wait_until_none()
        return await in_database(Call.objects.get, call_sid=ringing.sid)

    async def timeline(self, call: Call) -> list[str]:
        kinds = call.events.order_by("at", "id").values_list("kind", flat=True)
        return await in_database(list, kinds)

    async def work(self) -> None:
        """Have a worker run what is due."""
        with jobs.replace_connector(jobs.connector.get_worker_connector()) as worker:  # type: ignore[attr-defined]
            async with worker.open_async():
                await worker.run_worker_async(
                    wait=False, install_signal_handlers=False, listen_notify=False
                )

    async def told(self, name: str) -> dict[str, Any]:
        """Return the body of the one callback of that name, delivered by a worker."""
        await self.work()
        (callback,) = self.backend.to(name)
        return callback.body


@pytest.fixture
def speed() -> float:
    """How much faster than the clock the phone's time is."""
    return SPEED


@pytest.fixture
async def world(
    transactional_db: None, alice: Account, settings: Any, speed: float
) -> AsyncIterator[World]:
    """Alice's number, her backend, a phone, and the engine; the model comes with each test."""
    async with world_of(alice, settings, speed) as world:
        yield world


@asynccontextmanager
async def world_of(alice: Account, settings: Any, speed: float = SPEED) -> AsyncIterator[World]:
    await in_database(_forget_jobs)
    media = await MediaListener.start("127.0.0.1", 0)
    async with serve_backend(ACCOUNT_SID, AUTH_TOKEN, OPENAI_KEY) as backend, _http() as port:
        settings.ENGINE_URL = f"http://127.0.0.1:{port}"
        settings.MEDIA_STREAM_URL = f"ws://127.0.0.1:{media.port}/media"
        await in_database(
            PhoneNumber.objects.create,
            account=alice,
            phone_number=NUMBER,
            on_call_start_url=f"{backend.url}/start",
            on_call_end_url=f"{backend.url}/end",
            on_error_url=f"{backend.url}/error",
        )
        async with Phone(
            voice_url=f"{settings.ENGINE_URL}/voice",
            account_sid=ACCOUNT_SID,
            auth_token=AUTH_TOKEN,
            speed=speed,
        ) as phone:
            yield World(account=alice, backend=backend, phone=phone, media=media)
        async with asyncio.timeout(10):
            await media.stop()
    await client.close()


@pytest.fixture
async def other(world: World) -> AsyncIterator[MediaListener]:
    """A second engine."""
    media = await MediaListener.start("127.0.0.1", 0)
    yield media
    async with asyncio.timeout(10):
        await media.stop()


@pytest.fixture
def model(settings: Any) -> Iterator[Any]:
    """Serve a model that follows a script: ``async with model(Script(…)) as server``."""

    @asynccontextmanager
    async def serve(script: Script | None = None, **options: Any) -> AsyncIterator[ModelServer]:
        async with serve_model(script, key=OPENAI_KEY, **options) as server:
            settings.OPENAI_REALTIME_URL = server.url
            settings.OPENAI_LIVE_URL = server.live_url
            yield server

    return serve


@pytest.fixture
async def twilio(world: World, settings: Any) -> AsyncIterator[None]:
    """Serve the REST API of the phone."""
    app = web.Application()
    add_routes(app, world.phone)
    async with running(app) as url:
        settings.TWILIO_API_URL = f"{url}/twilio"
        yield


@pytest.fixture
def place(world: World, twilio: None, alice_api: Any) -> Any:
    """Place a call over the API; return the answer and the phone's call."""

    async def place(*, to: str = CALLEE, **options: Any) -> tuple[dict[str, Any], PhoneCall]:
        body = {
            "to": to,
            "from": NUMBER,
            "onCallStartUrl": f"{world.backend.url}/start",
            "onCallEndUrl": f"{world.backend.url}/end",
            "onErrorUrl": f"{world.backend.url}/error",
            "twilioAccountSid": ACCOUNT_SID,
            "twilioAuthToken": AUTH_TOKEN,
            **options,
        }
        response = await in_database(alice_api.post, "/api/outbound", body)
        assert response.status_code == 201, response.json()
        return response.json(), await world.phone.call_to(to)

    return place


async def drain(world: World, other: MediaListener, settings: Any) -> None:
    """Drain the first engine. Twilio's next streams go to the other one."""
    settings.MEDIA_STREAM_URL = f"ws://127.0.0.1:{other.port}/media"
    await asyncio.wait_for(world.media.drain(), 30)


def _forget_jobs() -> None:
    """Django does not empty the queue between tests: its tables are not Django's."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs CASCADE")


@asynccontextmanager
async def _http() -> AsyncIterator[int]:
    """Serve Django on a free port."""
    config = uvicorn.Config(get_asgi_application(), lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving
