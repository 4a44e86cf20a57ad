"""Test calls: the media socket as a browser opens it, without Twilio."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager

import aiohttp

from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.tests.customer import NUMBER
from telephony.call_sids import is_test_sid
from telephony.db import in_database
from telephony.models import Call, PhoneNumber
from telephony.voice import tasks
from telephony.voice.call_start import AlreadyEnded, Connect
from telephony.voice.testcalls import call_test_start
from usage.models import UsageRecord

CALLER = "+12025550123"
STREAM = "MZ" + "0" * 32


class Browser:
    """Does what static/testcall does, without sound: it plays everything at once."""

    def __init__(self, socket):
        self.socket = socket
        self.received = []

    async def send(self, event, **content):
        await self.socket.send_json({"event": event, "streamSid": STREAM, **content})

    async def type(self, text):
        await self.send("text", text={"body": text})

    async def until(self, arrived):
        """Receive messages until one matches, and return it; None when the socket is closed."""
        while True:
            message = await self.socket.receive(timeout=10)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return None
            event = message.json()
            self.received.append(event)
            if event["event"] == "mark":
                await self.send("mark", mark=event["mark"])
            if arrived(event):
                return event

    async def hears(self, text):
        """Wait for the agent's turn in the transcript."""
        found = await self.until(
            lambda event: (
                event["event"] == "transcript"
                and any(
                    line["role"] == "assistant" and line["text"] == text
                    for line in event["transcript"]
                )
            )
        )
        assert found, f"The socket was closed before {text!r}."

    async def until_closed(self):
        await self.until(lambda event: False)

    @property
    def transcript(self):
        last = [event for event in self.received if event["event"] == "transcript"][-1]
        return [(line["role"], line["text"]) for line in last["transcript"]]


async def started(world):
    def start():
        number = PhoneNumber.objects.get(phone_number=NUMBER)
        return call_test_start(number=number, caller=CALLER)

    return await in_database(start)


@asynccontextmanager
async def browser(world, start):
    introduction = {
        "streamSid": STREAM,
        "accountSid": start.plan.twilio_account_sid,
        "callSid": start.call.call_sid,
        "tracks": ["inbound"],
        "customParameters": {"ticket": start.ticket},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{world.media.port}/media") as socket,
    ):
        one = Browser(socket)
        await one.send("connected", protocol="Call", version="1.0.0")
        await one.send("start", start=introduction)
        yield one


async def ended(world, start):
    async with asyncio.timeout(10):
        await world.media.calls.wait_until_none()
    return await in_database(Call.objects.get, pk=start.call.pk)


async def test_a_typed_conversation(world, model):
    async with model(Script(turns=[Say("Five dollars.")])) as openai:
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            await caller.type("What does it cost?")
            await caller.hears("Five dollars.")
            await caller.send("stop", stop={"callSid": start.call.call_sid})
            await caller.until_closed()
        call = await ended(world, start)
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert created["item"]["content"] == [{"type": "input_text", "text": "What does it cost?"}]
    assert caller.transcript == [
        ("assistant", "Hello."),
        ("user", "What does it cost?"),
        ("assistant", "Five dollars."),
    ]
    audio = [event for event in caller.received if event["event"] == "media"]
    assert base64.b64decode(audio[0]["media"]["payload"])
    assert (call.direction, call.ended_reason) == ("inbound", "caller_hangup")
    assert is_test_sid(call.call_sid)
    end = await world.told("end")
    assert [line["text"] for line in end["transcript"]] == [text for _, text in caller.transcript]
    record = await in_database(UsageRecord.objects.get)
    assert record.twilio_cost == 0
    assert record.openai_cost > 0
    assert record.platform_cost > 0


async def test_the_backend_is_asked_as_ever(world):
    await started(world)
    (asked,) = world.backend.to("start")
    assert set(asked.body) == {
        "callSid",
        "callerPhone",
        "callerNumber",
        "calledNumber",
        "direction",
        "timestamp",
    }
    assert asked.body["callerPhone"] == CALLER
    assert asked.headers["webhook-id"].startswith("msg_c")


async def test_a_browser_that_disappears_ends_the_call(world, model):
    async with model():
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            caller.socket._response.connection.transport.abort()
        call = await ended(world, start)
    assert call.ended_reason == "caller_hangup"


async def test_typing_interrupts(world, model):
    long = "This is a very long answer that goes on and on until somebody writes something"
    async with model(Script(turns=[Say(long), Say("All right.")])) as openai:
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            await caller.type("Tell me everything")
            await caller.until(lambda event: event["event"] == "media")
            await caller.type("Stop")
            await caller.hears("All right.")
        await ended(world, start)
    assert [event for event in caller.received if event["event"] == "clear"]
    assert openai.sessions[0].received_of("conversation.item.truncate")


async def test_keys_reach_the_model(world, model):
    async with model(Script(turns=[Say("Four, two.")])):
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            for digit in "42#":
                await caller.send("dtmf", dtmf={"digit": digit})
            await caller.hears("Four, two.")
        await ended(world, start)
    assert ("user", "[The caller pressed on the keypad: 42#]") in caller.transcript


async def test_a_transfer_is_shown_and_the_socket_closed(world, model):
    turns = [(Say("One moment."), CallTool("transfer_call", {"to": "+15559876543"}))]
    async with model(Script(turns=turns)):
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            await caller.type("A human, please")
            after = await caller.until(lambda event: event["event"] == "after")
            await caller.until_closed()
        call = await ended(world, start)
    assert after["after"] == {"transfer": "+15559876543"}
    assert call.ended_reason == "transferred"


async def test_a_hang_up_over_the_api_closes_the_socket(world, model, alice_api):
    async with model():
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            path = f"/api/calls/{start.call.id}/hangup"
            assert (await in_database(alice_api.post, path)).status_code == 202
            await caller.until_closed()
        call = await ended(world, start)
    assert call.ended_reason == "api_hangup"


async def test_one_that_is_hung_up_while_the_backend_is_asked_goes_nowhere(world, alice_api):
    world.backend.may_answer = asyncio.Event()
    for answer in (None, {"transfer": "+15559876543", **world.backend.credentials}):
        world.backend.answer = answer
        world.backend.is_asked.clear()
        world.backend.may_answer.clear()
        starting = asyncio.create_task(started(world))
        await world.backend.is_asked.wait()
        call = await in_database(Call.objects.live().get)
        await in_database(alice_api.post, f"/api/calls/{call.id}/hangup")
        world.backend.may_answer.set()
        assert await starting == AlreadyEnded(call)
        await in_database(call.refresh_from_db)
        assert call.ended_reason == "api_hangup"


async def test_a_ticket_opens_once(world, model):
    async with model() as openai:
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            async with browser(world, start) as another:
                assert await another.until(lambda event: True) is None
                assert another.socket.close_code == 1008
        await ended(world, start)
    assert len(openai.sessions) == 1


async def test_a_browser_that_never_comes(world):
    start = await started(world)
    assert isinstance(start, Connect)
    await in_database(tasks.close_unconnected.func, call_id=start.call.id)
    call = await in_database(Call.objects.get, pk=start.call.pk)
    assert (call.status, call.ended_reason, call.duration_seconds) == ("canceled", "canceled", 0)


async def test_one_that_came_is_left_alone(world, model):
    async with model():
        start = await started(world)
        async with browser(world, start) as caller:
            await caller.hears("Hello.")
            await in_database(tasks.close_unconnected.func, call_id=start.call.id)
            call = await in_database(Call.objects.get, pk=start.call.pk)
            assert call.ended_at is None
        await ended(world, start)
