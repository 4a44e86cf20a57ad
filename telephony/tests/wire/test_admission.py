"""The limit of concurrent calls, with many of every kind that begin at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event

import pytest
from django.utils import timezone

from accounts.models import Account
from core.connections import run_and_let_go
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER
from telephony.db import in_database
from telephony.models import Call, PhoneNumber
from telephony.tests.twilio_stand_in import call_resource, running_twilio
from telephony.tests.wire.test_refusals import form, post
from telephony.voice import webhooks
from telephony.voice.call_start import Connect
from telephony.voice.testcalls import call_test_start

AT_ONCE = 50
LIMIT = 10


class Begin:
    """Makes calls of each kind, all of which want a place when :attr:`together` is full."""

    def __init__(self, world, api, *, asking: int) -> None:
        self._world = world
        self._api = api
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._together = asyncio.Barrier(max(asking, 1))
        self._is_time = Event()
        if asking == 0:
            self._is_time.set()

    async def wait(self) -> None:
        """Hold the backend's response until it has been asked about every call."""
        await self._together.wait()
        self._is_time.set()

    async def inbound(self) -> bool:
        status, twiml = await post(self._world, form())
        assert status == 200
        return "<Connect" in twiml

    async def outbound(self) -> bool:
        return await self._in_thread(self._place)

    async def test_call(self) -> bool:
        return await self._in_thread(self._test)

    def _place(self) -> bool:
        self._is_time.wait(10)
        body = {
            "to": "+15559876543",
            "from": NUMBER,
            "onCallStartUrl": "https://backend.example/start",
            "onCallEndUrl": "https://backend.example/end",
            "twilioAccountSid": ACCOUNT_SID,
            "twilioAuthToken": AUTH_TOKEN,
        }
        response = self._api.post("/api/outbound", body)
        assert response.status_code in (201, 429), response.json()
        return response.status_code == 201

    def _test(self) -> bool:
        number = PhoneNumber.objects.get(phone_number=NUMBER)
        started = call_test_start(number=number, caller="+12025550123")
        return isinstance(started, Connect)

    async def _in_thread(self, begin) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, run_and_let_go, begin)


@pytest.fixture
async def twilio(settings) -> AsyncIterator[None]:
    with running_twilio() as twilio:
        settings.TWILIO_API_URL = twilio.url
        taken = count()
        twilio.body = lambda: call_resource(sid=f"CA{next(taken):032d}")
        yield


@pytest.mark.usefixtures("twilio")
@pytest.mark.parametrize(
    "kinds",
    [["inbound"], ["outbound"], ["test_call"], ["inbound", "outbound", "test_call"]],
    ids="+".join,
)
async def test_ten_of_fifty_simultaneous_calls_begin(
    world, alice: Account, alice_api, settings, monkeypatch, kinds: list[str]
) -> None:
    settings.MAX_CONCURRENT_CALLS = LIMIT
    settings.MAX_UNVERIFIED_RINGS = AT_ONCE
    # A slow machine responds late, but responds.
    monkeypatch.setattr(webhooks, "_VISIT_WITHIN_S", 10.0)
    calls = [kinds[position % len(kinds)] for position in range(AT_ONCE)]
    asking = AT_ONCE - calls.count("outbound")
    begin = world.backend.may_answer = Begin(world, alice_api, asking=asking)
    begun = await asyncio.gather(*(getattr(begin, kind)() for kind in calls))
    assert sum(begun) == LIMIT
    live = Call.objects.of(alice).live()
    assert await in_database(live.count) == LIMIT
    assert await in_database(live.with_a_place(timezone.now()).count) == LIMIT
    assert len(world.backend.to("start")) == asking
