"""Calls that come in: webhooks, TwiML, and how a call ends."""

from __future__ import annotations

import wave
from io import BytesIO

import pytest
from twilio.request_validator import RequestValidator

from sandbox.phone import exchange, webhooks
from sandbox.phone.callees import Callee
from sandbox.phone.exchange import Phone
from sandbox.phone.faults import Faults
from sandbox.phone.interpreter import APPLICATION_ERROR
from sandbox.phone.person import Step
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER, Customer, ended


async def test_it_works(customer: Customer, phone: Phone) -> None:
    customer.says("<Say>Hello there</Say><Hangup/>")

    call = await ended(phone.ring(to=NUMBER, from_="+19805550000"))

    assert call.line.heard == "Hello there"
    assert not call.journal.of("heard")[0]["cut_off"]
    assert call.status == "completed"
    assert call.duration >= 1
    (request,) = customer.to("/voice")
    assert request.form["CallSid"] == call.sid
    assert request.form["AccountSid"] == ACCOUNT_SID
    assert request.form["From"] == "+19805550000"
    assert request.form["To"] == NUMBER
    assert request.form["Direction"] == "inbound"
    assert request.form["CallStatus"] == "ringing"
    assert request.form["ApiVersion"] == "2010-04-01"
    assert request.form["FromCity"] == ""
    assert request.idempotency_token
    assert not call.journal.of("error")


async def test_requests_are_signed_over_every_parameter(customer: Customer, phone: Phone) -> None:
    customer.says("<Reject/>")

    await ended(phone.ring(to=NUMBER))

    (request,) = customer.to("/voice")
    assert request.signature
    assert RequestValidator(AUTH_TOKEN).validate(request.url, request.form, request.signature)


@pytest.mark.parametrize("kind", ["wrong", "none"])
async def test_a_signature_may_be_bad(customer: Customer, phone: Phone, kind: str) -> None:
    customer.says("<Reject/>")

    await ended(phone.ring(to=NUMBER, faults=Faults(signature=kind)))  # type: ignore[arg-type]

    (request,) = customer.to("/voice")
    validator = RequestValidator(AUTH_TOKEN)
    assert not validator.validate(request.url, request.form, request.signature or "")
    assert (request.signature is None) == (kind == "none")


async def test_a_get_request_is_signed_with_its_query(customer: Customer, phone: Phone) -> None:
    customer.says('<Redirect method="GET">/next?a=b</Redirect>')
    customer.says("<Hangup/>", "/next")

    await ended(phone.ring(to=NUMBER))

    (request,) = customer.to("/next")
    assert "a=b&AccountSid=" in request.url
    assert request.form == {}
    assert request.signature == RequestValidator(AUTH_TOKEN).compute_signature(request.url, {})


@pytest.mark.parametrize(
    ("twiml", "status"),
    [
        ("<Reject/>", "no-answer"),
        ('<Reject reason="rejected"/>', "no-answer"),
        ('<Reject reason="busy"/><Say>Never</Say>', "busy"),
    ],
)
async def test_a_rejected_call_is_never_answered(
    customer: Customer, phone: Phone, twiml: str, status: str
) -> None:
    customer.says(twiml)

    call = await ended(phone.ring(to=NUMBER))

    assert call.status == status
    assert call.duration == 0
    assert not call.journal.of("answered")
    assert not call.journal.of("heard")


async def test_an_answer_that_is_lost_is_asked_for_again(customer: Customer, phone: Phone) -> None:
    customer.says("<Reject/>")

    call = await ended(phone.ring(to=NUMBER, faults=Faults(answer_lost=frozenset({"voice"}))))

    first, second = customer.to("/voice")
    assert first == second
    assert call.status == "no-answer"


@pytest.mark.parametrize(
    ("twiml", "code"), [("<Response><Say>", 12100), ("Hello", 12100), (None, 11200)]
)
async def test_an_unusable_answer_is_an_application_error(
    customer: Customer, phone: Phone, twiml: str | None, code: int
) -> None:
    path = "/no-such-page" if twiml is None else "/voice"
    customer.twiml["/voice"] = twiml or ""

    call = await ended(phone.ring(to=NUMBER, voice_url=customer.base + path))

    assert call.line.heard == APPLICATION_ERROR
    assert call.status == "completed"
    assert [event["code"] for event in call.journal.of("error")] == [code]
    assert not call.went_through


async def test_nobody_at_the_voice_url_is_an_application_error(phone: Phone) -> None:
    call = await ended(phone.ring(to=NUMBER, voice_url="http://127.0.0.1:9/voice"))

    assert [event["code"] for event in call.journal.of("error")] == [11205]


async def test_a_voice_url_that_does_not_answer_in_time(
    customer: Customer, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TOTAL_TIMEOUT_S", 0.1)
    customer.answer_gate.clear()

    call = await ended(phone.ring(to=NUMBER))
    customer.answer_gate.set()

    assert call.line.heard == APPLICATION_ERROR
    assert [event["code"] for event in call.journal.of("error")] == [11200]


async def test_unknown_verbs_are_warnings(customer: Customer, phone: Phone) -> None:
    customer.says("<Sing/><Say>Still here</Say>")

    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == "Still here"
    assert [event["code"] for event in call.journal.of("warning")] == [12200]


async def test_pause_and_redirect(customer: Customer, phone: Phone) -> None:
    customer.says('<Pause length="2"/><Redirect>/next</Redirect><Say>Never</Say>')
    customer.says("<Say>Next</Say>", "/next")

    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == "Next"
    assert customer.to("/next")[0].form["CallStatus"] == "in-progress"
    assert call.duration >= 2


async def test_play_takes_as_long_as_the_file(customer: Customer, phone: Phone) -> None:
    customer.files["/hello.wav"] = silent_wav(seconds=1.5)
    customer.says("<Play>/hello.wav</Play><Say>After</Say>")

    call = await ended(phone.ring(to=NUMBER))

    assert call.journal.of("plays")[0]["seconds"] == 1.5
    assert call.line.heard == "… After"
    assert call.duration >= 2


async def test_a_file_that_cannot_be_played_is_an_error(customer: Customer, phone: Phone) -> None:
    customer.files["/hello.mp3"] = b"<html>This is no music</html>"
    customer.says("<Play>/hello.mp3</Play><Say>After</Say>")

    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == "After"
    assert call.journal.of("error")[0]["code"] == 11200


async def test_gather_collects_keys_and_stops_the_prompt(customer: Customer, phone: Phone) -> None:
    customer.says('<Gather action="/keys" numDigits="2"><Say>Press two keys, please</Say></Gather>')
    customer.says("<Say>Thanks</Say>", "/keys")

    call = phone.ring(to=NUMBER)
    await call.person.hears("Press")
    await call.person.press("42")
    await ended(call)

    assert customer.to("/keys")[0].form["Digits"] == "42"
    assert "please" not in call.line.heard
    assert call.line.heard.endswith("Thanks")


async def test_gather_ends_with_a_key_or_with_speech(customer: Customer, phone: Phone) -> None:
    customer.says('<Gather action="/keys"/>')
    customer.says(
        '<Gather action="/speech" input="dtmf speech"><Say>Who are you?</Say></Gather>', "/keys"
    )

    script = [Step("press", "1#"), Step("listen"), Step("say", "My name is Ann")]
    call = phone.ring(to=NUMBER, script=script)
    await ended(call)

    assert customer.to("/keys")[0].form["Digits"] == "1"
    assert customer.to("/speech")[0].form["SpeechResult"] == "My name is Ann"


async def test_gather_without_an_answer_goes_on(customer: Customer, phone: Phone) -> None:
    customer.says('<Gather action="/keys" timeout="1"/><Say>Nothing</Say>')

    call = await ended(phone.ring(to=NUMBER))

    assert call.line.heard == "Nothing"
    assert not customer.to("/keys")


@pytest.mark.parametrize(
    ("callee", "status"),
    [
        (Callee(script=(Step("say", "Front desk"),)), "completed"),
        (Callee(answers="busy"), "busy"),
        (Callee(rings_for=60), "no-answer"),
    ],
)
async def test_dial_rings_somebody_else(
    customer: Customer, phone: Phone, callee: Callee, status: str
) -> None:
    phone.directory.put("+15557654321", callee)
    customer.says('<Dial action="/after" timeout="5">+15557654321</Dial>')
    customer.says("<Hangup/>", "/after")

    call = await ended(phone.ring(to=NUMBER))

    form = customer.to("/after")[0].form
    assert form["DialCallStatus"] == status
    assert form["DialCallSid"].startswith("CA")
    assert call.line.heard == ("Front desk" if status == "completed" else "")


async def test_dial_needs_a_number(customer: Customer, phone: Phone) -> None:
    customer.says("<Dial>the front desk</Dial>")

    call = await ended(phone.ring(to=NUMBER))

    assert call.journal.of("error")[0]["code"] == 13224


async def test_the_caller_may_hang_up_while_something_is_said(
    customer: Customer, phone: Phone
) -> None:
    customer.says("<Say>This is a very long story that nobody will ever hear the end of</Say>")

    call = phone.ring(to=NUMBER)
    await call.person.hears("long story")
    call.person.hang_up()
    await ended(call)

    assert call.status == "completed"
    assert call.journal.of("hang-up")[0]["by"] == "caller"
    assert call.journal.of("heard")[0]["cut_off"]
    assert "the end" not in call.line.heard


async def test_the_caller_may_hang_up_before_the_answer(customer: Customer, phone: Phone) -> None:
    customer.answer_gate.clear()
    customer.says("<Say>Too late</Say>")

    call = phone.ring(to=NUMBER)
    await call.journal.wait_for("request")
    call.person.hang_up()
    customer.answer_gate.set()
    await ended(call)

    assert call.status == "no-answer"
    assert len(customer.to("/voice")) == 1
    assert not call.journal.of("answered")


async def test_hang_up_after_some_time(customer: Customer, phone: Phone) -> None:
    customer.says('<Pause length="60"/>')

    call = await ended(phone.ring(to=NUMBER, hang_up_after=2))

    assert 2 <= call.duration < 60


async def test_the_same_call_sid_may_ring_twice(customer: Customer, phone: Phone) -> None:
    customer.says("<Reject/>")

    first = await ended(phone.ring(to=NUMBER))
    await ended(phone.ring(to=NUMBER, call_sid=first.sid))

    one, two = customer.to("/voice")
    assert one.form["CallSid"] == two.form["CallSid"]
    assert one.idempotency_token != two.idempotency_token


async def test_old_calls_are_forgotten(
    customer: Customer, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_CALLS_KEPT", 2)
    customer.says("<Reject/>")

    calls = [await ended(phone.ring(to=NUMBER)) for _ in range(5)]

    assert list(phone.calls.values()) == calls[-len(phone.calls) :]
    assert 2 <= len(phone.calls) < 5


async def test_leaving_the_phone_ends_its_calls(customer: Customer) -> None:
    customer.says('<Pause length="60"/>')
    async with Phone(
        voice_url=customer.voice_url, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN
    ) as phone:
        call = phone.ring(to=NUMBER)
        await call.journal.wait_for("answered")

    assert call.status == "completed"
    assert call.journal.is_closed


def silent_wav(seconds: float) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(8000)
        recording.writeframes(bytes(2 * int(8000 * seconds)))
    return file.getvalue()
