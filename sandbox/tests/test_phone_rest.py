"""Twilio's REST API, as Twilio's own library uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from typing import Any, TypeVar

import pytest
import requests
from aiohttp import web
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from sandbox.phone import rest
from sandbox.phone.callees import Callee
from sandbox.phone.exchange import Phone
from sandbox.phone.faults import Faults
from sandbox.phone.numbers import STOCK, Number
from sandbox.phone.person import Step
from sandbox.speech import duration_ms
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER, Customer, ended, running

CALLEE = "+15559876543"
EVENTS = ["initiated", "ringing", "answered", "completed"]

T = TypeVar("T")


@pytest.fixture
async def api(phone: Phone) -> AsyncIterator[str]:
    app = web.Application()
    rest.add_routes(app, phone)
    async with running(app) as base:
        yield f"{base}/twilio"


@pytest.fixture
def client(api: str) -> Client:
    return client_for(api)


def client_for(api: str, sid: str = ACCOUNT_SID, token: str = AUTH_TOKEN) -> Client:
    client = Client(sid, token)
    client.api.base_url = api
    return client


async def ask(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Use the library in a thread, since it blocks."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def order(client: Client, customer: Customer, **options: Any) -> Any:
    options = {"to": CALLEE, "from_": NUMBER, "url": customer.voice_url, **options}
    return await ask(client.calls.create, **options)


def statuses(customer: Customer) -> list[str]:
    return [request.form["CallStatus"] for request in customer.to("/status")]


async def test_it_works(client: Client, customer: Customer, phone: Phone) -> None:
    phone.directory.put(CALLEE, Callee(script=(Step("say", "Hello?"), Step("wait", 60))))
    customer.says('<Say>Good news</Say><Pause length="2"/>')

    created = await order(
        client,
        customer,
        status_callback=f"{customer.base}/status",
        status_callback_event=EVENTS,
        timeout=20,
    )
    call = await ended(await phone.call_to(CALLEE))

    assert created.sid == call.sid
    assert created.status == "queued"
    assert created.direction == "outbound-api"
    assert created.to == CALLEE
    assert created._from == NUMBER
    assert created.to_formatted == "(555) 987-6543"
    assert created.date_created.tzinfo == UTC
    assert created.price is None
    assert call.line.heard == "Good news"
    (voice,) = customer.to("/voice")
    assert voice.form["CallStatus"] == "in-progress"
    assert voice.form["Direction"] == "outbound-api"
    assert "AnsweredBy" not in voice.form
    assert statuses(customer) == ["initiated", "ringing", "in-progress", "completed"]
    assert [request.form["SequenceNumber"] for request in customer.to("/status")] == list("0123")
    completed = customer.to("/status")[-1]
    assert completed.form["CallDuration"] == str(call.duration)
    assert completed.form["CallbackSource"] == "call-progress-events"
    assert RequestValidator(AUTH_TOKEN).validate(
        completed.url, completed.form, completed.signature or ""
    )


async def test_a_fetched_call_has_its_price_later(
    client: Client, customer: Customer, phone: Phone
) -> None:
    customer.says("<Hangup/>")
    created = await order(client, customer)
    await ended(phone.calls[created.sid])

    fetched = await ask(client.calls(created.sid).fetch)
    assert fetched.status == "completed"
    assert fetched.duration == "1"
    assert fetched.price is None
    assert fetched.price_unit == "USD"

    assert rest.resource(phone.calls[created.sid], priced_after=0)["price"] == "-0.01400"


@pytest.mark.parametrize(
    ("answers", "status", "heard_of"),
    [
        ("busy", "busy", ["initiated", "ringing", "busy"]),
        ("no-answer", "no-answer", ["initiated", "ringing", "no-answer"]),
        ("failed", "failed", ["initiated", "failed"]),
    ],
)
async def test_nobody_answers(
    client: Client, customer: Customer, phone: Phone, answers: Any, status: str, heard_of: list[str]
) -> None:
    phone.directory.put(CALLEE, Callee(answers=answers))

    created = await order(
        client,
        customer,
        status_callback=f"{customer.base}/status",
        status_callback_event=EVENTS,
        timeout=2,
    )
    call = await ended(phone.calls[created.sid])

    assert call.status == status
    assert statuses(customer) == heard_of
    assert customer.to("/status")[-1].form["CallDuration"] == "0"
    assert not customer.to("/voice")


async def test_it_rings_no_longer_than_the_timeout(
    client: Client, customer: Customer, phone: Phone
) -> None:
    phone.directory.put(CALLEE, Callee(rings_for=30))

    created = await order(client, customer, timeout=5)

    assert (await ended(phone.calls[created.sid])).status == "no-answer"


@pytest.mark.parametrize(
    ("ending", "status"), [("0001", "busy"), ("0002", "no-answer"), ("0003", "failed")]
)
async def test_the_number_tells_who_answers(
    client: Client, customer: Customer, phone: Phone, ending: str, status: str
) -> None:
    created = await order(client, customer, to=f"+1555123{ending}", timeout=1)

    assert (await ended(phone.calls[created.sid])).status == status


@pytest.mark.parametrize(
    ("answers", "detection", "answered_by"),
    [
        ("human", "Enable", "human"),
        ("machine", "Enable", "machine_start"),
        ("machine", "DetectMessageEnd", "machine_end_beep"),
    ],
)
async def test_machine_detection(
    client: Client,
    customer: Customer,
    phone: Phone,
    answers: Any,
    detection: str,
    answered_by: str,
) -> None:
    greeting = "Please leave a message after the beep. " * 2
    script = (Step("say", greeting),)
    phone.directory.put(CALLEE, Callee(answers=answers, script=script))
    customer.says("<Hangup/>")

    created = await order(client, customer, machine_detection=detection)
    call = await ended(phone.calls[created.sid])

    assert customer.to("/voice")[0].form["AnsweredBy"] == answered_by
    if answered_by == "machine_end_beep":
        waited = call.journal.of("answered-by")[0].at - call.journal.of("answered")[0].at
        assert waited > duration_ms(greeting) / 1000 - 0.1


async def test_completed_hangs_up(client: Client, customer: Customer, phone: Phone) -> None:
    customer.connects()
    created = await order(client, customer)
    call = phone.calls[created.sid]
    await call.journal.wait_for("stream-connected")

    updated = await ask(client.calls(created.sid).update, status="completed")
    await ended(call)

    assert updated.status == "completed"
    assert call.journal.of("hang-up")[0]["by"] == "api"
    assert customer.sockets[0].of("stop")


async def test_canceled_stops_the_ringing(client: Client, customer: Customer, phone: Phone) -> None:
    phone.directory.put(CALLEE, Callee(rings_for=30))
    created = await order(client, customer, status_callback=f"{customer.base}/status")
    call = phone.calls[created.sid]
    await call.journal.wait_for("rings")

    updated = await ask(client.calls(created.sid).update, status="canceled")
    await ended(call)

    assert updated.status == "canceled"
    assert statuses(customer) == ["canceled"]


async def test_canceled_does_nothing_to_an_answered_call(
    client: Client, customer: Customer, phone: Phone
) -> None:
    customer.connects()
    created = await order(client, customer)
    await phone.calls[created.sid].journal.wait_for("stream-connected")

    updated = await ask(client.calls(created.sid).update, status="canceled")

    assert updated.status == "in-progress"


@pytest.mark.parametrize("way", ["twiml", "url"])
async def test_a_call_is_redirected(
    client: Client, customer: Customer, phone: Phone, way: str
) -> None:
    customer.connects()
    customer.says("<Say>Elsewhere</Say>", "/elsewhere")
    created = await order(client, customer)
    call = phone.calls[created.sid]
    await call.journal.wait_for("stream-connected")

    change = (
        {"twiml": "<Response><Say>Elsewhere</Say></Response>"}
        if way == "twiml"
        else {"url": f"{customer.base}/elsewhere"}
    )
    await ask(client.calls(created.sid).update, **change)
    await ended(call)

    assert call.line.heard == "Elsewhere"
    assert customer.sockets[0].of("stop")
    assert not customer.to("/after")


async def test_twiml_may_come_with_the_order(
    client: Client, customer: Customer, phone: Phone
) -> None:
    twiml = "<Response><Say>Right here</Say></Response>"
    created = await ask(client.calls.create, to=CALLEE, from_=NUMBER, twiml=twiml)

    assert (await ended(phone.calls[created.sid])).line.heard == "Right here"
    assert not customer.requests


async def test_statuses_may_come_in_reverse(api: str, customer: Customer, phone: Phone) -> None:
    phone.faults = Faults(statuses_reversed=True)
    customer.says("<Hangup/>")

    created = await order(
        client_for(api),
        customer,
        status_callback=f"{customer.base}/status",
        status_callback_event=EVENTS,
    )
    await ended(phone.calls[created.sid])

    assert statuses(customer) == ["completed", "in-progress", "ringing", "initiated"]
    assert [request.form["SequenceNumber"] for request in customer.to("/status")] == list("3210")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"to": ""}, 21201),
        ({"to": "555"}, 21211),
        ({"to": NUMBER}, 21211),
        ({"from_": ""}, 21213),
        ({"from_": "me"}, 21212),
        ({"from_": "+15005550001"}, 21212),
        ({"to": "+15005550001"}, 21217),
        ({"to": "+15005550003"}, 21215),
        ({"url": "/voice"}, 21205),
        ({"status_callback": "nowhere"}, 21205),
        ({"status_callback_event": ["sneezed"]}, 21626),
        ({"timeout": 0}, 21208),
        ({"machine_detection": "Maybe"}, 20001),
    ],
)
async def test_an_order_that_is_refused(
    client: Client, customer: Customer, phone: Phone, options: dict[str, Any], code: int
) -> None:
    with pytest.raises(TwilioRestException) as caught:
        await order(client, customer, **options)

    assert (caught.value.status, caught.value.code) == (400, code)
    assert not phone.calls


@pytest.mark.parametrize(
    ("sid", "token"), [(ACCOUNT_SID, "wrong"), ("AC1", AUTH_TOKEN), (ACCOUNT_SID, "")]
)
async def test_wrong_credentials(api: str, sid: str, token: str) -> None:
    url = f"{api}/2010-04-01/Accounts/{sid}/Calls.json"

    response = await ask(requests.post, url, auth=(sid, token), timeout=5)

    assert response.status_code == 401
    assert response.json() == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}])
async def test_no_credentials(api: str, header: dict[str, str]) -> None:
    url = f"{api}/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json"

    response = await ask(requests.post, url, headers=header, timeout=5)

    assert response.json()["code"] == 20003


async def test_another_account_has_its_own_token_and_calls(
    api: str, client: Client, customer: Customer, phone: Phone
) -> None:
    other = client_for(api, "AC" + "e" * 32, "another-token")
    customer.says("<Hangup/>")
    created = await order(other, customer)
    await ended(phone.calls[created.sid])

    (voice,) = customer.to("/voice")
    assert RequestValidator("another-token").validate(voice.url, voice.form, voice.signature or "")
    with pytest.raises(TwilioRestException) as caught:
        await ask(client.calls(created.sid).fetch)
    assert (caught.value.status, caught.value.code) == (404, 20404)
    with pytest.raises(TwilioRestException) as caught:
        await order(client_for(api, "AC" + "e" * 32, "a-third-token"), customer)
    assert caught.value.code == 20003


async def test_a_call_that_is_over_cannot_be_changed(
    client: Client, customer: Customer, phone: Phone
) -> None:
    customer.says("<Hangup/>")
    created = await order(client, customer)
    await ended(phone.calls[created.sid])

    with pytest.raises(TwilioRestException) as caught:
        await ask(client.calls(created.sid).update, status="completed")
    assert (caught.value.status, caught.value.code) == (400, 21220)


async def test_a_call_that_rings_cannot_be_redirected(
    client: Client, customer: Customer, phone: Phone
) -> None:
    phone.directory.put(CALLEE, Callee(rings_for=30))
    created = await order(client, customer)

    with pytest.raises(TwilioRestException) as caught:
        await ask(client.calls(created.sid).update, url=customer.voice_url)
    assert caught.value.code == 21220


ENGINE_URL = "https://voice.example.org/voice"


async def test_an_account_has_every_number_that_is_nobody_elses(
    phone: Phone, client: Client
) -> None:
    phone.numbers.give(Number("AC" + "f" * 32, "+15550000001"))
    (number,) = await ask(client.incoming_phone_numbers.list, phone_number=NUMBER)
    assert (number.phone_number, number.account_sid) == (NUMBER, ACCOUNT_SID)
    assert number.capabilities == {"voice": True, "sms": True, "mms": True, "fax": False}
    assert number.voice_url == "https://demo.twilio.com/welcome/voice/"
    assert number.date_updated.tzinfo == UTC
    assert await ask(client.incoming_phone_numbers.list, phone_number="+15550000001") == []
    assert await ask(client.incoming_phone_numbers.list, phone_number="+1555000000*") == []
    in_stock = await ask(client.incoming_phone_numbers.list)
    assert [number.phone_number for number in in_stock] == list(STOCK)


async def test_numbers_are_listed_in_pages(phone: Phone, client: Client) -> None:
    numbers = [f"+1555000{count:04}" for count in range(7)]
    for number in numbers:
        phone.numbers.give(Number(ACCOUNT_SID, number))
    page = await ask(client.incoming_phone_numbers.page, phone_number="+1555000", page_size=3)
    assert [number.phone_number for number in page] == numbers[:3]
    second = await ask(page.next_page)
    assert "PageToken=PA" in page.next_page_url
    assert [number.phone_number for number in second] == numbers[3:6]
    third = await ask(second.next_page)
    assert [number.phone_number for number in third] == numbers[6:]
    assert await ask(third.next_page) is None
    before = await ask(third.previous_page)
    assert [number.phone_number for number in before] == numbers[3:6]
    streamed = await ask(
        client.incoming_phone_numbers.list, phone_number="+1555000", limit=5, page_size=2
    )
    assert [number.phone_number for number in streamed] == numbers[:5]


async def test_a_number_is_changed_and_is_then_nobody_elses(
    api: str, phone: Phone, client: Client
) -> None:
    (number,) = await ask(client.incoming_phone_numbers.list, phone_number=NUMBER)
    changed = await ask(number.update, voice_url=ENGINE_URL, voice_method="GET")
    assert (changed.voice_url, changed.voice_method) == (ENGINE_URL, "GET")
    fetched = await ask(client.incoming_phone_numbers(number.sid).fetch)
    assert (fetched.phone_number, fetched.voice_url) == (NUMBER, ENGINE_URL)
    other = client_for(api, "AC" + "e" * 32, "another-token")
    assert await ask(other.incoming_phone_numbers.list, phone_number=NUMBER) == []
    with pytest.raises(TwilioRestException) as caught:
        await ask(other.incoming_phone_numbers(number.sid).fetch)
    assert (caught.value.status, caught.value.code) == (404, 20404)


async def test_a_trunk_replaces_an_application(phone: Phone, client: Client) -> None:
    number = phone.numbers.give(Number(ACCOUNT_SID, NUMBER))
    change = client.incoming_phone_numbers(number.sid).update
    with_application = await ask(change, voice_application_sid="AP" + "1" * 32)
    assert (with_application.voice_application_sid, with_application.trunk_sid) == (
        "AP" + "1" * 32,
        None,
    )
    with_trunk = await ask(change, trunk_sid="TK" + "1" * 32)
    assert (with_trunk.voice_application_sid, with_trunk.trunk_sid) == (None, "TK" + "1" * 32)
    assert (await ask(change, trunk_sid="")).trunk_sid is None


@pytest.mark.parametrize(
    ("change", "code"), [({"voice_url": "/voice"}, 21502), ({"voice_method": "PUT"}, 21403)]
)
async def test_a_change_that_is_refused(
    phone: Phone, client: Client, change: dict[str, str], code: int
) -> None:
    number = phone.numbers.give(Number(ACCOUNT_SID, NUMBER))
    with pytest.raises(TwilioRestException) as caught:
        await ask(client.incoming_phone_numbers(number.sid).update, **change)
    assert (caught.value.status, caught.value.code) == (400, code)


async def test_a_call_goes_where_its_number_points(
    phone: Phone, client: Client, customer: Customer
) -> None:
    customer.says("<Say>Right here</Say>", "/elsewhere")
    number = phone.numbers.give(Number(ACCOUNT_SID, NUMBER))
    await ask(
        client.incoming_phone_numbers(number.sid).update, voice_url=f"{customer.base}/elsewhere"
    )
    assert (await ended(phone.ring(to=NUMBER))).line.heard == "Right here"
    await ask(client.incoming_phone_numbers(number.sid).update, trunk_sid="TK" + "1" * 32)
    call = await ended(phone.ring(to=NUMBER))
    assert not call.is_answered
    assert len(customer.requests) == 1


async def test_a_call_is_signed_for_the_account_that_has_the_number(
    api: str, phone: Phone, customer: Customer
) -> None:
    customer.says("<Hangup/>")
    other = client_for(api, "AC" + "e" * 32, "another-token")
    (number,) = await ask(other.incoming_phone_numbers.list, phone_number=NUMBER)
    await ask(number.update, voice_url=customer.voice_url)
    await ended(phone.ring(to=NUMBER))
    (voice,) = customer.to("/voice")
    assert voice.form["AccountSid"] == "AC" + "e" * 32
    assert RequestValidator("another-token").validate(voice.url, voice.form, voice.signature or "")
