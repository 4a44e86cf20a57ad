"""The description of a call for a person."""

from __future__ import annotations

import pytest

from sandbox.phone.callees import Callee
from sandbox.phone.control import as_json
from sandbox.phone.exchange import Phone
from sandbox.phone.faults import Faults
from sandbox.phone.narration import narrate
from sandbox.phone.outbound import Order
from sandbox.phone.person import Step
from sandbox.tests.customer import NUMBER, Customer, ended

CALLEE = "+15557654321"


async def told(customer: Customer, phone: Phone, faults: Faults | None = None) -> str:
    script = [Step("wait", 0.5), Step("press", "5"), Step("say", "Is anybody there?")]
    call = await ended(phone.ring(to=NUMBER, script=script, faults=faults))
    lines = [narrate(as_json(event)) for event in call.journal.events]
    return "\n".join(line for line in lines if line)


@pytest.mark.parametrize(
    ("twiml", "lines"),
    [
        (
            '<Say>Hello</Say><Pause length="3"/>',
            [
                "caller   +19805551234 rings +15551234567 (CA",
                "carrier  asks what to do with the call (ringing): POST /voice",
                "product  answers 200 after ",
                "carrier  the call is answered",
                "carrier  <Say>Hello</Say>",
                "agent    “Hello”",
                "person   presses 5",
                "person   “Is anybody there?”",
                'carrier  <Pause length="3"/>',
                "product  hangs up",
                "carrier  the call is completed; it took ",
            ],
        ),
        ("<Sing/>", ["carrier  warning 12200: Schema validation warning: <Sing> is unknown"]),
        ("<Redirect>/no-such-page</Redirect>", ["carrier  ERROR 11200: "]),
        ('<Reject reason="busy"/>', ['carrier  <Reject reason="busy"/>', "the call is busy"]),
        (
            f"<Dial>{CALLEE}</Dial>",
            [
                f"carrier  puts the call through to {CALLEE}",
                f"carrier  {CALLEE} answers",
                "agent    “Front desk”",
                f"carrier  the call with {CALLEE} is over: completed",
            ],
        ),
        (
            '<Connect><Stream url="MEDIA"/></Connect>',
            [
                "carrier  media stream open: ws://",
                "carrier  drops the socket",
                "ERROR 31921: Stream",
            ],
        ),
    ],
)
async def test_it_works(customer: Customer, phone: Phone, twiml: str, lines: list[str]) -> None:
    phone.directory.put(CALLEE, Callee(script=(Step("say", "Front desk"),)))
    customer.says(twiml.replace("MEDIA", customer.media_url))

    story = await told(customer, phone, Faults(socket_dropped_after=1))

    for line in lines:
        assert line in story


async def test_a_call_that_is_ordered(customer: Customer, phone: Phone) -> None:
    phone.directory.put(CALLEE, Callee(answers="machine", script=(Step("say", "Beep"),)))
    customer.says("<Hangup/>")
    order = Order(CALLEE, NUMBER, customer.voice_url, machine_detection="Enable")

    call = await ended(phone.place(order))

    story = "\n".join(filter(None, (narrate(as_json(event)) for event in call.journal.events)))
    assert f"carrier  is to call {CALLEE} from {NUMBER}" in story
    assert f"callee   the phone rings at {CALLEE}" in story
    assert "carrier  it was answered by: machine_start" in story


def test_a_signed_token_does_not_fill_the_screen() -> None:
    url = "https://engine.example/voice/after/" + "x" * 80
    event = {"at": 1.5, "kind": "request", "purpose": "action", "url": url, "parameters": {}}

    assert narrate(event) == (
        "   1.50 s  carrier  asks what to do after that (): POST /voice/after/xxxxxxxxxxxx…"
    )


def test_an_event_that_is_of_no_interest() -> None:
    assert narrate({"at": 0.0, "kind": "mark", "name": "1", "cleared": False}) is None
