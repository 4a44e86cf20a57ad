"""The API through which calls are made by hand, and the command that uses it."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from django.core.management import CommandError, call_command
from twilio.request_validator import RequestValidator

from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN
from sandbox.management.commands import simulate_call
from sandbox.phone import control, rest
from sandbox.phone.exchange import Phone
from sandbox.phone.outbound import Order
from sandbox.speech import frames, hear
from sandbox.tests.customer import NUMBER, Customer, Socket, ended, running, serving

CALLEE = "+15559876543"


@pytest.fixture
async def sandbox(phone: Phone) -> AsyncIterator[str]:
    """The phone's APIs over HTTP, as the sandbox serves them."""
    app = web.Application()
    rest.add_routes(app, phone)
    control.add_routes(app, phone)
    async with running(app) as base:
        yield base


async def ring(sandbox: str, **body: Any) -> list[dict[str, Any]]:
    """Ring, and return all that happened."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sandbox}/phone/calls", json={"to": NUMBER, **body}) as response,
    ):
        assert response.status == 200
        assert response.content_type == "application/x-ndjson"
        return [json.loads(line) async for line in response.content]


async def simulate(sandbox: str, *options: str) -> str:
    """Run the command in a thread; return what it printed."""
    stdout = io.StringIO()
    await asyncio.to_thread(
        call_command, "simulate_call", "--sandbox", sandbox, *options, stdout=stdout
    )
    return stdout.getvalue()


async def answer_politely(socket: Socket) -> None:
    """Greet, answer each thing that is said, and leave the hanging up to the caller."""
    await socket.until("start")
    await socket.play(b"".join(frames("Good morning, this is a rather long greeting")))
    answered = ""
    while event := await socket.receive():
        if event["event"] == "media" and (heard := hear(socket.heard())) != answered:
            quiet = hear(socket.heard()[-20:]) == ""
            if quiet:
                answered = heard
                await socket.send("clear")
                await socket.play(b"".join(frames("I see")))


async def test_it_works(sandbox: str, customer: Customer) -> None:
    customer.says("<Say>Hello</Say>")

    events = await ring(sandbox, **{"from": "+19805550000"})

    assert [event["kind"] for event in events] == [
        "dials-in",
        "request",
        "response",
        "answered",
        "twiml",
        "heard",
        "hang-up",
        "ended",
    ]
    assert events[0]["caller"] == "+19805550000"
    assert events[-1]["status"] == "completed"
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


async def test_the_script_is_followed(sandbox: str, customer: Customer) -> None:
    customer.says('<Gather action="/keys" numDigits="1"/>')
    customer.says('<Pause length="60"/>', "/keys")

    events = await ring(sandbox, script=[{"press": "7"}, {"wait": 1}, {"hang_up": True}])

    assert customer.to("/keys")[0].form["Digits"] == "7"
    assert events[-2] == {"at": events[-2]["at"], "kind": "hang-up", "by": "caller"}


async def test_another_account_may_be_used(sandbox: str, customer: Customer) -> None:
    customer.says("<Reject/>")

    await ring(sandbox, accountSid="AC" + "e" * 32, authToken="another")

    (voice,) = customer.to("/voice")
    assert voice.form["AccountSid"] == "AC" + "e" * 32
    assert RequestValidator("another").validate(voice.url, voice.form, voice.signature or "")


@pytest.mark.parametrize(
    "body",
    [
        {"to": "555"},
        {"from": 5},
        {"script": [{"sing": "a song"}]},
        {"script": ["say"]},
        {"script": [{"say": 5}]},
        {"script": [{"wait": "long"}]},
        {"hangUpAfter": -1},
        {"accountSid": "AC"},
    ],
)
async def test_a_call_that_cannot_be_made(sandbox: str, phone: Phone, body: dict[str, Any]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sandbox}/phone/calls", json={"to": NUMBER, **body}) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]
    assert not phone.calls


async def test_somebody_is_put_at_a_number(sandbox: str, phone: Phone) -> None:
    callee = {"answers": "machine", "ringsFor": 3, "script": [{"say": "Leave a message"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{sandbox}/phone/callees/{CALLEE}", json=callee) as response,
    ):
        assert response.status == 204

    assert phone.directory(CALLEE).answers == "machine"
    assert phone.directory(CALLEE).rings_for == 3
    assert phone.directory(CALLEE).lines == ("Leave a message",)


@pytest.mark.parametrize("body", [{"answers": "maybe"}, {"script": 5}, {"ringsFor": "long"}, []])
async def test_a_callee_that_cannot_be(sandbox: str, body: Any) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{sandbox}/phone/callees/{CALLEE}", json=body) as response,
    ):
        assert response.status == 400


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "events"), ("GET", "recording"), ("POST", "hangup")]
)
async def test_a_call_that_is_not_there(sandbox: str, method: str, path: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{sandbox}/phone/calls/CA0/{path}") as response,
    ):
        assert response.status == 404


async def test_a_person_is_hung_up_for(sandbox: str, customer: Customer, phone: Phone) -> None:
    customer.connects()
    call = phone.ring(to=NUMBER)
    await call.journal.wait_for("stream-connected")

    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sandbox}/phone/calls/{call.sid}/hangup") as response,
    ):
        assert response.status == 204
    await call.journal.wait_for("ended")
    assert call.journal.of("hang-up")[0]["by"] == "caller"


async def test_whoever_goes_away_has_hung_up(
    sandbox: str, customer: Customer, phone: Phone
) -> None:
    customer.says('<Pause length="600"/>')
    script = [{"say": "Hello?"}, {"wait": 1}] * 60

    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sandbox}/phone/calls", json={"to": NUMBER, "script": script}) as response,
    ):
        await response.content.readline()
        response.close()
    (call,) = phone.calls.values()
    await call.journal.wait_for("ended")

    assert call.journal.of("hang-up")[0]["by"] == "caller"
    assert len(call.journal.of("says")) < 60


async def test_the_command_tells_the_call(sandbox: str, customer: Customer, tmp_path: Path) -> None:
    customer.connects()
    customer.talk = answer_politely
    recording = tmp_path / "call.wav"

    told = await simulate(
        sandbox, "--number", NUMBER, "--say", "First", "--say", "Second", "--record", str(recording)
    )

    lines = told.splitlines()
    assert "rings +15551234567" in lines[0]
    assert any("“Good morning, this is a rather long greeting”" in line for line in lines)
    assert told.index("“First”") < told.index("“I see”") < told.index("“Second”")
    assert "the call is completed" in told
    with wave.open(str(recording)) as file:
        assert file.getnframes() / 8000 > 3


async def test_the_command_interrupts(sandbox: str, customer: Customer) -> None:
    customer.connects()
    customer.talk = answer_politely

    told = await simulate(sandbox, "--number", NUMBER, "--say", "Wait!", "--interrupt")

    assert told.index("“Wait!”") < told.index("interrupts the agent")
    assert "rather long greeting" not in told


async def test_the_command_hangs_up_after_a_time(sandbox: str, customer: Customer) -> None:
    customer.connects()

    told = await simulate(sandbox, "--number", NUMBER, "--hangup-after", "2", "--digits", "1")

    assert "caller   hangs up" in told


async def test_the_command_has_the_product_call_somebody(
    sandbox: str, customer: Customer, phone: Phone, settings: Any
) -> None:
    customer.connects()
    customer.talk = answer_politely
    asked: list[tuple[str | None, dict[str, Any]]] = []

    async def outbound(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append((request.headers.get("Authorization"), body))
        call = phone.place(Order(body["to"], body["from"], customer.voice_url))
        return web.json_response({"callSid": call.sid, "status": "queued"}, status=201)

    async with serving(outbound) as product:
        settings.PUBLIC_URL = product
        told = await simulate(
            sandbox,
            *("--outbound", "--number", NUMBER, "--to", CALLEE, "--api-key", "rtk_key"),
            *("--say", "Hello, who is it?", "--timeout", "20"),
        )

    ((authorization, body),) = asked
    assert authorization == "Bearer rtk_key"
    assert body["to"] == CALLEE
    assert body["from"] == NUMBER
    assert body["timeout"] == 20
    assert body["twilioAccountSid"] == SANDBOX_ACCOUNT_SID
    assert body["twilioAuthToken"] == SANDBOX_AUTH_TOKEN
    assert body["onCallStartUrl"].startswith(f"{sandbox}/backend/")
    assert "the phone rings at +15559876543" in told
    assert "“Hello, who is it?”" in told
    assert "callee   hangs up" in told


async def test_the_command_hangs_up_when_it_is_stopped(
    sandbox: str, customer: Customer, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer.connects()

    def press_control_c(event: dict[str, Any]) -> None:
        if event["kind"] == "stream-connected":
            raise KeyboardInterrupt

    monkeypatch.setattr(simulate_call, "narrate", press_control_c)
    with pytest.raises(CommandError, match="You hung up"):
        await simulate(sandbox, "--number", NUMBER, "--hangup-after", "600")
    call = await ended(await phone.call_to(NUMBER))

    assert call.journal.of("hang-up")[0]["by"] == "caller"


async def test_the_command_fails_when_the_call_does(sandbox: str, customer: Customer) -> None:
    customer.says("<Reject/>")

    with pytest.raises(CommandError, match="did not go through"):
        await simulate(sandbox, "--number", NUMBER)


async def test_the_command_needs_a_sandbox() -> None:
    with pytest.raises(CommandError, match=r"Nothing listens at .* Start bin/dev"):
        await simulate("http://127.0.0.1:9", "--number", NUMBER)


async def test_the_command_needs_a_key_for_outbound_calls(sandbox: str) -> None:
    with pytest.raises(CommandError, match="--api-key"):
        await simulate(sandbox, "--number", NUMBER, "--outbound")
