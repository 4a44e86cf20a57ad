"""Requests to Twilio's REST API, over a socket."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from telephony import twilio_rest
from telephony.tests.twilio_stand_in import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CALL_SID,
    Received,
    Twilio,
    call_resource,
    running_twilio,
)
from telephony.twilio_rest import (
    CarrierRejected,
    CarrierUnavailable,
    TwilioCredentials,
    place_call,
)

CREDENTIALS = TwilioCredentials(ACCOUNT_SID, AUTH_TOKEN)


@pytest.fixture
def twilio(settings: Settings) -> Iterator[Twilio]:
    with running_twilio() as twilio:
        settings.TWILIO_API_URL = twilio.url + "/twilio"
        yield twilio


def place(**changes: Any) -> str:
    order: dict[str, Any] = {
        "to": "+15559876543",
        "from_number": "+15551234567",
        "url": "https://engine.example.com/voice/answer/token",
        "status_url": "https://engine.example.com/voice/status/token",
        "timeout": 30,
    }
    return place_call(CREDENTIALS, **order | changes)


def test_it_works(twilio: Twilio) -> None:
    assert place() == CALL_SID
    basic = base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    assert twilio.received == [
        Received(
            path=f"/twilio/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json",
            authorization=f"Basic {basic}",
            form={
                "To": ["+15559876543"],
                "From": ["+15551234567"],
                "Url": ["https://engine.example.com/voice/answer/token"],
                "Timeout": ["30"],
                "StatusCallback": ["https://engine.example.com/voice/status/token"],
                "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
            },
        )
    ]


def test_machine_detection_is_asked_for(twilio: Twilio) -> None:
    place(machine_detection="DetectMessageEnd")
    assert twilio.received[0].form["MachineDetection"] == ["DetectMessageEnd"]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, 21211, "Invalid 'To' Phone Number: +15559876543"),
        (404, 20404, "The requested resource was not found"),
    ],
)
def test_a_refusal_is_told(twilio: Twilio, status: int, code: int, message: str) -> None:
    twilio.refuses(status, code, message)
    with pytest.raises(CarrierRejected) as refusal:
        place()
    assert (refusal.value.code, refusal.value.message) == (code, message)


@pytest.mark.parametrize(
    ("status", "code", "message", "explanation"),
    [
        (401, 20003, "Authenticate", "does not accept this Account SID and auth token"),
        (403, 20005, "Account not active", "suspended or closed"),
        (403, 20008, "Resource not accessible with Test Account Credentials", "test credentials"),
        (429, 20429, "Too Many Requests", "Try again in a minute"),
    ],
)
def test_what_twilio_says_of_the_account_is_explained(
    twilio: Twilio, status: int, code: int, message: str, explanation: str
) -> None:
    twilio.refuses(status, code, message)
    with pytest.raises(CarrierRejected) as refusal:
        place()
    assert refusal.value.code == code
    assert explanation in str(refusal.value)
    assert f"(Twilio error {code})" in str(refusal.value)
    assert message not in str(refusal.value)


@pytest.mark.parametrize("code", [None, "20003", [20003], {}, 0])
def test_a_code_that_is_no_number_is_replaced_by_the_status(twilio: Twilio, code: Any) -> None:
    twilio.status, twilio.body = 401, {"code": code, "message": "Authenticate", "status": 401}
    with pytest.raises(CarrierRejected) as refusal:
        place()
    assert refusal.value.code == 401


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"", {}, [], "no"])
def test_a_refusal_without_a_reason_is_one_too(twilio: Twilio, body: Any) -> None:
    twilio.status, twilio.body = 403, body
    with pytest.raises(CarrierRejected) as refusal:
        place()
    assert refusal.value.code == 403
    assert refusal.value.message


def test_a_refusal_in_the_form_of_rfc_9457_is_told(twilio: Twilio) -> None:
    twilio.status = 400
    twilio.body = {
        "type": "https://www.twilio.com/docs/errors/21211",
        "title": "Invalid To",
        "status": 400,
        "code": 21211,
        "detail": "The number is invalid.",
    }
    with pytest.raises(CarrierRejected) as refusal:
        place()
    assert (refusal.value.code, refusal.value.message) == (21211, "The number is invalid.")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"code": 20500, "message": "Internal Server Error", "status": 500}),
        (503, b"upstream connect error"),
        (302, b""),
        (201, b"not json"),
        (201, b""),
        (201, []),
        (201, {}),
        (201, call_resource(sid="CA123")),
        (201, call_resource(sid=None)),
    ],
)
def test_an_answer_that_says_nothing_leaves_it_open(twilio: Twilio, status: int, body: Any) -> None:
    twilio.status, twilio.body = status, body
    with pytest.raises(CarrierUnavailable) as failure:
        place()
    assert failure.value.was_sent


def test_where_nobody_listens_nothing_was_sent(twilio: Twilio, settings: Settings) -> None:
    settings.TWILIO_API_URL = "http://127.0.0.1:1"
    with pytest.raises(CarrierUnavailable) as failure:
        place()
    assert not failure.value.was_sent


def test_a_connection_that_breaks_leaves_it_open(twilio: Twilio) -> None:
    def act(received: Received) -> None:
        raise ConnectionAbortedError

    twilio.acts = act
    with pytest.raises(CarrierUnavailable) as failure:
        place()
    assert failure.value.was_sent


def test_the_whole_exchange_has_a_limit(twilio: Twilio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte arrives soon enough here, but the last one never does."""
    monkeypatch.setattr(twilio_rest, "TIMEOUT_SECONDS", 0.3)
    twilio.drips = True
    with pytest.raises(CarrierUnavailable) as failure:
        place()
    assert failure.value.was_sent


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_the_token_is_in_no_log_line(
    twilio: Twilio, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    caplog.set_level(level)
    for name in ("twilio", "twilio.http_client", "urllib3", "requests", "telephony.twilio_rest"):
        caplog.set_level(level, logger=name)
    place()
    twilio.refuses(401, 20003, "Authenticate")
    with pytest.raises(CarrierRejected):
        place()
    twilio.status = 500
    with pytest.raises(CarrierUnavailable):
        place()
    basic = base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    assert len(twilio.received) == 3
    assert not [record for record in caplog.records if record.name.startswith("twilio")]
    for secret in (AUTH_TOKEN, basic, "/voice/answer/", "+15559876543"):
        assert secret not in caplog.text
    assert AUTH_TOKEN not in repr(CREDENTIALS)
