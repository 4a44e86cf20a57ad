"""Media streams: the protocol, its pace, and what can happen to a stream."""

from __future__ import annotations

import asyncio
import base64

import pytest
from twilio.request_validator import RequestValidator

from sandbox.phone.exchange import Phone
from sandbox.phone.faults import Faults
from sandbox.phone.person import Step
from sandbox.speech import SILENCE, frames, hear
from sandbox.tests.customer import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    NUMBER,
    SPEED,
    Customer,
    Request,
    Socket,
    ended,
    key_tone,
)


def said(text: str) -> bytes:
    return b"".join(frames(text))


async def take_and_close(socket: Socket) -> None:
    await socket.until("start")


def stream_events(customer: Customer) -> list[str]:
    return [request.form["StreamEvent"] for request in customer.to("/stream-status")]


async def test_it_works(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        while "Hello" not in hear(socket.heard()):
            await socket.until("media")
        await socket.play(said("Good morning"), mark="greeting")
        await socket.until("mark")

    customer.talk = talk
    customer.connects(parameters='<Parameter name="ticket" value="abc.def"/>')

    call = phone.ring(to=NUMBER, script=[Step("until_connected"), Step("say", "Hello")])
    await ended(call)

    assert call.line.heard == "Good morning"
    assert call.went_through
    (socket,) = customer.sockets
    connected, start, first = socket.received[:3]
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start == {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": ACCOUNT_SID,
            "streamSid": socket.stream_sid,
            "callSid": call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"ticket": "abc.def"},
        },
        "streamSid": socket.stream_sid,
    }
    assert first["event"] == "media"
    assert first["sequenceNumber"] == "2"
    assert first["media"].keys() == {"track", "chunk", "timestamp", "payload"}
    assert first["media"]["track"] == "inbound"
    assert len(base64.b64decode(first["media"]["payload"])) == 160
    assert socket.of("mark")[0]["mark"] == {"name": "greeting"}


async def test_the_upgrade_is_signed_over_the_websocket_url(
    customer: Customer, phone: Phone
) -> None:
    customer.talk = take_and_close
    customer.connects()

    await ended(phone.ring(to=NUMBER))

    (socket,) = customer.sockets
    assert socket.url == customer.media_url
    assert socket.signature
    assert RequestValidator(AUTH_TOKEN).validate(socket.url, {}, socket.signature)


async def test_the_action_and_the_status_callback_are_requested(
    customer: Customer, phone: Phone
) -> None:
    customer.talk = take_and_close
    customer.connects(after="<Say>Never</Say>")
    customer.says("<Say>Afterwards</Say>", "/after")

    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == "Afterwards"
    assert stream_events(customer) == ["stream-started", "stream-stopped"]
    (after,) = customer.to("/after")
    assert after.form["CallStatus"] == "in-progress"
    for request in (after, *customer.to("/stream-status")):
        assert request.form["CallSid"] == call.sid
        assert is_signed(request)
    assert customer.to("/stream-status")[0].form["StreamSid"] == customer.sockets[0].stream_sid


async def test_without_an_action_the_next_verb_follows(customer: Customer, phone: Phone) -> None:
    customer.talk = take_and_close
    customer.says(f'<Connect><Stream url="{customer.media_url}"/></Connect><Say>Next</Say>')

    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == "Next"


async def test_the_caller_hangs_up(customer: Customer, phone: Phone) -> None:
    customer.connects()

    call = phone.ring(to=NUMBER)
    await call.journal.wait_for("stream-connected")
    call.person.hang_up()
    await ended(call)

    (socket,) = customer.sockets
    assert socket.received[-1]["event"] == "stop"
    assert socket.received[-1]["stop"] == {"accountSid": ACCOUNT_SID, "callSid": call.sid}
    assert stream_events(customer) == ["stream-started", "stream-stopped"]
    assert customer.to("/after")[0].form["CallStatus"] == "completed"
    assert call.status == "completed"


async def test_frames_come_at_the_pace_of_the_line(customer: Customer, phone: Phone) -> None:
    arrivals: list[float] = []

    async def talk(socket: Socket) -> None:
        await socket.until("start")
        while len(arrivals) < 200:
            await socket.until("media")
            arrivals.append(asyncio.get_running_loop().time())

    customer.talk = talk
    customer.connects()
    await ended(phone.ring(to=NUMBER))

    (socket,) = customer.sockets
    assert [event["media"]["chunk"] for event in socket.of("media")[:200]] == [
        str(number) for number in range(1, 201)
    ]
    assert [int(event["media"]["timestamp"]) for event in socket.of("media")[:3]] == [20, 40, 60]
    nominal = 199 * 0.020 / SPEED
    assert nominal * 0.9 < arrivals[-1] - arrivals[0] < nominal + 0.25


async def test_a_mark_comes_back_when_the_audio_has_been_played(
    customer: Customer, phone: Phone
) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        await socket.send("mark", mark={"name": "nothing before"})
        await socket.play(SILENCE * 100, mark="two seconds")
        await socket.until("mark")
        await socket.until("mark")

    customer.talk = talk
    customer.connects()
    call = await ended(phone.ring(to=NUMBER))

    first, second = call.journal.of("mark")
    assert (first["name"], second["name"]) == ("nothing before", "two seconds")
    (socket,) = customer.sockets
    names = [event["event"] for event in socket.received]
    assert names[names.index("mark") :].count("media") >= 99


async def test_clear_stops_the_agent_and_returns_the_marks(
    customer: Customer, phone: Phone
) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        await socket.play(said("One two three four five six seven eight nine ten"), mark="count")
        while "stop" not in hear(socket.heard()):
            await socket.until("media")
        await socket.send("clear")
        await socket.until("mark")
        await socket.play(said("Yes?"), mark="yes")
        await socket.until("mark")

    customer.talk = talk
    customer.connects()
    call = phone.ring(to=NUMBER, script=[Step("interrupt", "stop")])
    await ended(call)

    assert call.line.heard.startswith("One two")
    assert call.line.heard.endswith("Yes?")
    assert "ten" not in call.line.heard
    assert call.journal.of("clear")[0]["dropped_ms"] > 0
    assert call.journal.of("mark")[0].detail == {"name": "count", "cleared": True}
    assert call.journal.of("heard")[0]["cut_off"]


async def test_audio_of_any_length_is_heard_as_it_was_said(
    customer: Customer, phone: Phone
) -> None:
    text = "The quick brown fox jumps over the lazy dog"

    async def talk(socket: Socket) -> None:
        await socket.until("start")
        audio = said(text)
        for at in range(0, len(audio), 777):
            await socket.play(audio[at : at + 777])
        await socket.send("mark", mark={"name": "end"})
        await socket.until("mark")

    customer.talk = talk
    customer.connects()
    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == text


async def test_keys_are_sent_as_dtmf(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("dtmf")
        await socket.until("dtmf")

    customer.talk = talk
    customer.connects()
    await ended(phone.ring(to=NUMBER, script=[Step("until_connected"), Step("press", "1#")]))

    assert [event["dtmf"] for event in customer.sockets[0].of("dtmf")] == [
        {"track": "inbound_track", "digit": "1"},
        {"track": "inbound_track", "digit": "#"},
    ]


async def test_keys_are_recognized_by_their_sound(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        await socket.play(said("Dialing"))
        for key in "11#":
            await socket.play(key_tone(key) + SILENCE * 3)
        await socket.send("mark", mark={"name": "end"})
        await socket.until("mark")

    customer.talk = talk
    customer.connects()
    call = await ended(phone.ring(to=NUMBER))

    assert [event["digit"] for event in call.journal.of("key-tone")] == ["1", "1", "#"]
    assert call.line.heard == "Dialing…"


async def test_the_caller_listens_until_the_agent_has_finished(
    customer: Customer, phone: Phone
) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        await socket.play(said("First. Take your time."))
        while "And then?" not in hear(socket.heard()):
            await socket.until("media")
        await socket.play(said("Second."))
        await socket.drain()

    customer.talk = talk
    customer.connects()
    call = phone.ring(to=NUMBER)

    assert await call.person.listen() == "First. Take your time."
    await call.person.say("And then?")
    assert await call.person.listen() == "Second."
    assert await call.person.listen(patience=1) == ""
    call.person.hang_up()
    await ended(call)
    assert [event["text"] for event in call.journal.of("says")] == ["And then?"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("{ws}/media?ticket=1", 31920),
        ("{ws}/elsewhere", 31920),
        ("ws://127.0.0.1:9/media", 31901),
        ("this is no address", 31920),
        ("/media", 31920),
    ],
)
async def test_a_stream_that_cannot_be_opened(
    customer: Customer, phone: Phone, url: str, code: int
) -> None:
    address = url.format(ws=customer.base.replace("http", "ws"))
    customer.says(
        f'<Connect action="/after"><Stream url="{address}" statusCallback="/stream-status"/>'
        "</Connect>"
    )
    customer.says("<Say>Sorry</Say>", "/after")

    call = await ended(phone.ring(to=NUMBER))

    assert [event["code"] for event in call.journal.of("error")] == [code]
    assert stream_events(customer) == ["stream-error"]
    assert str(code) in customer.to("/stream-status")[0].form["StreamError"]
    assert call.line.heard == "Sorry"


async def test_a_socket_that_breaks_is_an_error(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("media")
        transport = socket.ws._req.transport  # type: ignore[union-attr]
        transport.abort()

    customer.talk = talk
    customer.connects()
    call = await ended(phone.ring(to=NUMBER))

    assert stream_events(customer) == ["stream-started", "stream-error"]
    assert len(customer.to("/after")) == 1
    assert call.status == "completed"
    assert not call.went_through


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"event":"media"}',
        '{"event":"media","streamSid":"MZ0","media":{"payload":""}}',
        '{"event":"sing","streamSid":"SID"}',
        '{"event":"media","streamSid":"SID","media":{"payload":"%%"}}',
        '{"event":"mark","streamSid":"SID"}',
    ],
)
async def test_a_message_that_is_no_good_is_an_error(
    customer: Customer, phone: Phone, message: str
) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        await socket.ws.send_str(message.replace("SID", socket.stream_sid))

    customer.talk = talk
    customer.connects()
    call = await ended(phone.ring(to=NUMBER))

    assert [event["code"] for event in call.journal.of("error")] == [31951]
    assert not call.went_through


# How a phone misbehaves


async def test_messages_may_come_in_fragments(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        while "in pieces" not in hear(socket.heard()):
            await socket.until("media")

    customer.talk = talk
    customer.connects()
    script = [Step("until_connected"), Step("say", "in pieces")]
    call = await ended(phone.ring(to=NUMBER, script=script, faults=Faults(fragments=3)))

    assert call.went_through
    assert customer.sockets[0].received[1]["event"] == "start"


async def test_the_socket_may_be_dropped(customer: Customer, phone: Phone) -> None:
    customer.connects()

    call = await ended(phone.ring(to=NUMBER, faults=Faults(socket_dropped_after=0.5)))

    (socket,) = customer.sockets
    assert not socket.of("stop")
    assert stream_events(customer)[-1] == "stream-error"
    assert call.journal.of("socket-dropped")


async def test_media_may_come_before_the_start(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")

    customer.talk = talk
    customer.connects()
    await ended(phone.ring(to=NUMBER, faults=Faults(media_before_start=True)))

    names = [event["event"] for event in customer.sockets[0].received]
    assert names == ["connected", "media", "start"]


async def test_requests_may_be_lost(customer: Customer, phone: Phone) -> None:
    customer.connects(after="<Say>Next</Say>")
    lost = frozenset({"action", "stream-status"})

    call = phone.ring(to=NUMBER, faults=Faults(lost=lost))
    await call.journal.wait_for("stream-connected")
    call.person.hang_up()
    await ended(call)

    assert {request.path for request in customer.requests} == {"/voice"}


async def test_a_slow_reader_hears_everything_late(customer: Customer, phone: Phone) -> None:
    async def talk(socket: Socket) -> None:
        await socket.until("start")
        for word in ("one", "two", "three"):
            await socket.play(said(word))
        await socket.drain()

    customer.talk = talk
    customer.connects()
    call = phone.ring(to=NUMBER, faults=Faults(read_delay=1.0))
    await call.person.hears("one two three")
    call.person.hang_up()
    await ended(call)

    (connected,), (hung_up,) = call.journal.of("stream-connected"), call.journal.of("hang-up")
    assert hung_up.at - connected.at >= 2.0  # two delays; the words alone take 0.1 s


async def test_a_stream_may_be_joined_by_hand(customer: Customer, phone: Phone) -> None:
    customer.connects(parameters='<Parameter name="ticket" value="once"/>')
    call = phone.ring(to=NUMBER)
    await call.journal.wait_for("stream-connected")
    assert call.stream

    again = await phone.join(call, url=call.stream.url, parameters=call.stream.parameters)
    again.send("start", start={"customParameters": {"ticket": "forged"}})
    await again.stop()
    call.person.hang_up()
    await ended(call)

    tickets = [
        [event["start"]["customParameters"]["ticket"] for event in socket.of("start")]
        for socket in customer.sockets
    ]
    assert tickets == [["once"], ["once", "forged"]]


def is_signed(request: Request) -> bool:
    return RequestValidator(AUTH_TOKEN).validate(request.url, request.form, request.signature or "")
