"""Connecting a Twilio account: its numbers, and who may take which."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.audit import AuditEvent
from accounts.models import Account
from accounts.tasks import send_mail
from core.connections import run_and_let_go
from core.errors import ApiError
from core.tests.described import assert_described
from telephony.connecting import Consents, phone_number_connect
from telephony.models import PhoneNumber, ReleasedNumber
from telephony.tests.numbers_at_twilio import (
    OTHERS_URL,
    VOICE_URL,
    NumbersAtTwilio,
    serving_numbers,
)
from telephony.tests.twilio_stand_in import ACCOUNT_SID, AUTH_TOKEN, running_twilio
from telephony.twilio_rest import TwilioCredentials

CONNECT = "/api/phone-numbers/connect"
LIST = "/api/phone-numbers/twilio"
NUMBER = "+12125550143"
SECOND = "+12125550144"
FOREIGN_SID = "AC" + "f" * 32
CREDENTIALS = {"twilioAccountSid": ACCOUNT_SID, "twilioAuthToken": AUTH_TOKEN}
URLS = {
    "onCallStartUrl": "https://your-backend.com/calls/start",
    "onCallEndUrl": "https://your-backend.com/calls/end",
}
BODY = {**CREDENTIALS, **URLS, "phoneNumber": NUMBER}


@pytest.fixture(autouse=True)
def engine(settings: Settings) -> None:
    settings.ENGINE_URL = VOICE_URL.removesuffix("/voice")


@pytest.fixture
def twilio(settings: Settings) -> Iterator[NumbersAtTwilio]:
    with serving_numbers() as numbers:
        settings.TWILIO_API_URL = numbers.url
        yield numbers


def number_of(account: Account, **fields: Any) -> PhoneNumber:
    values = {
        "phone_number": NUMBER,
        "on_call_start_url": "https://before.example/start",
        "on_call_end_url": "https://before.example/end",
    }
    return PhoneNumber.objects.create(account=account, **values | fields)


def connect(api: APIClient, **changes: Any) -> Any:
    return api.post(CONNECT, BODY | changes)


@pytest.mark.django_db
class TestConnect:
    def test_it_works(self, twilio: NumbersAtTwilio, alice: Account, alice_api: APIClient) -> None:
        at_twilio = twilio.give(NUMBER, voice_method="GET")
        response = connect(alice_api, name="Reservations")
        assert response.status_code == 201
        assert_described(response.json(), "connectPhoneNumber", 201)
        shown = response.json()["phoneNumber"]
        assert shown["name"] == "Reservations"
        assert shown["twilioAccountSid"] == ACCOUNT_SID
        number = PhoneNumber.objects.of(alice).get()
        assert (number.phone_number, number.on_call_end_url) == (NUMBER, URLS["onCallEndUrl"])
        assert number.verified_at is not None
        assert (at_twilio.voice_url, at_twilio.voice_method) == (VOICE_URL, "POST")
        events = AuditEvent.objects.of(alice).order_by("created_at")
        assert [(event.action, event.detail["number"]) for event in events] == [
            ("phone_number.registered", NUMBER),
            ("phone_number.connected", NUMBER),
        ]

    def test_a_second_time_changes_nothing_at_twilio(
        self, twilio: NumbersAtTwilio, alice_api: APIClient
    ) -> None:
        twilio.give(NUMBER)
        assert connect(alice_api).status_code == 201
        assert connect(alice_api).status_code == 200
        assert [method for method, _ in twilio.requests] == ["GET", "POST", "GET"]

    def test_a_number_that_the_account_has_keeps_what_is_left_out(
        self, twilio: NumbersAtTwilio, alice: Account, alice_api: APIClient
    ) -> None:
        number = number_of(
            alice,
            name="Before",
            on_error_url="https://before.example/error",
            twilio_account_sid=FOREIGN_SID,
            refused_account_sid=ACCOUNT_SID,
            refused_at=timezone.now(),
        )
        twilio.give(NUMBER)
        response = connect(alice_api, onCallStartUrl=None, onCallEndUrl=None)
        assert response.status_code == 200
        assert response.json()["phoneNumber"]["id"] == number.id
        number.refresh_from_db()
        assert (number.name, number.on_call_start_url, number.on_error_url) == (
            "Before",
            "https://before.example/start",
            "https://before.example/error",
        )
        assert (number.twilio_account_sid, number.refused_account_sid) == (ACCOUNT_SID, "")

    @pytest.mark.parametrize("missing", list(URLS))
    def test_a_new_number_needs_urls(
        self, twilio: NumbersAtTwilio, alice_api: APIClient, missing: str
    ) -> None:
        at_twilio = twilio.give(NUMBER)
        response = connect(alice_api, **{missing: None})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [missing]
        assert not PhoneNumber.objects.exists()
        assert at_twilio.voice_url == OTHERS_URL

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"phoneNumber": "(212) 555-0143"}, "phoneNumber"),
            ({"twilioAccountSid": "AC1"}, "twilioAccountSid"),
            ({"twilioAuthToken": "two words"}, "twilioAuthToken"),
            ({"twilioAuthToken": None}, "twilioAuthToken"),
            ({"onCallStartUrl": "http://your-backend.com"}, "onCallStartUrl"),
            ({"moveFromOtherAccount": "yes"}, "moveFromOtherAccount"),
            ({"name": "x" * 65}, "name"),
        ],
    )
    def test_what_is_wrong_is_said_and_twilio_is_not_asked(
        self,
        twilio: NumbersAtTwilio,
        alice_api: APIClient,
        settings: Settings,
        change: dict[str, Any],
        field: str,
    ) -> None:
        settings.CALLBACK_ALLOW_PRIVATE = False
        response = connect(alice_api, **change)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [field]
        assert not twilio.requests

    def test_a_number_of_another_twilio_account_is_refused(
        self, twilio: NumbersAtTwilio, alice_api: APIClient
    ) -> None:
        twilio.give(NUMBER, FOREIGN_SID)
        response = connect(alice_api)
        assert response.status_code == 400
        assert response.json()["code"] == "phone_number_not_proven"
        assert not PhoneNumber.objects.exists()

    def test_a_number_that_receives_no_calls_is_refused(
        self, twilio: NumbersAtTwilio, alice_api: APIClient
    ) -> None:
        twilio.give(NUMBER, can_voice=False)
        response = connect(alice_api)
        assert (response.status_code, response.json()["code"]) == (400, "number_not_allowed")
        assert not PhoneNumber.objects.exists()

    @pytest.mark.parametrize(
        "routing", [{"trunk_sid": "TK" + "1" * 32}, {"voice_application_sid": "AP" + "1" * 32}]
    )
    def test_a_trunk_or_an_application_is_removed_with_consent(
        self, twilio: NumbersAtTwilio, alice_api: APIClient, routing: dict[str, str]
    ) -> None:
        at_twilio = twilio.give(NUMBER, **routing)
        refused = connect(alice_api)
        assert (refused.status_code, refused.json()["code"]) == (409, "phone_number_routed")
        assert not PhoneNumber.objects.exists()
        assert at_twilio.rings_elsewhere
        assert connect(alice_api, replaceRouting=True).status_code == 201
        assert not at_twilio.rings_elsewhere
        assert at_twilio.voice_url == VOICE_URL

    @pytest.mark.parametrize(("who", "status"), [("carol_api", 402), ("dave_api", 403)])
    def test_only_active_accounts_may(
        self, twilio: NumbersAtTwilio, request: Any, who: str, status: int
    ) -> None:
        assert connect(request.getfixturevalue(who)).status_code == status
        assert request.getfixturevalue(who).post(LIST, CREDENTIALS).status_code == status
        assert not twilio.requests


@pytest.mark.django_db
class TestANumberOfAnotherAccount:
    """Who has the auth token owns the number, and has to agree to move it."""

    MOVES = {"moveFromOtherAccount": True}

    @pytest.fixture(autouse=True)
    def at_twilio(self, twilio: NumbersAtTwilio) -> None:
        twilio.give(NUMBER)

    @pytest.mark.parametrize(
        "bound",
        [
            {},  # registered by somebody who does not have it
            {"twilio_account_sid": FOREIGN_SID},  # which had the number before
            {"twilio_account_sid": ACCOUNT_SID},  # the same company's, for instance
        ],
    )
    def test_it_is_moved_with_consent(
        self, alice: Account, bob: Account, bob_api: APIClient, bound: dict[str, str]
    ) -> None:
        number_of(alice, **bound, verified_at=timezone.now() if bound else None)
        refused = connect(bob_api)
        assert (refused.status_code, refused.json()["code"]) == (409, "phone_number_taken")
        assert PhoneNumber.objects.get().account == alice
        assert connect(bob_api, **self.MOVES).status_code == 201
        number = PhoneNumber.objects.get()
        assert (number.account, number.twilio_account_sid) == (bob, ACCOUNT_SID)
        assert not ReleasedNumber.objects.exists()

    def test_its_former_owner_is_told_but_not_by_whom(
        self, alice: Account, bob: Account, bob_api: APIClient, settings: Settings
    ) -> None:
        settings.SENDS_MAIL = True
        number_of(alice)
        assert connect(bob_api, **self.MOVES).status_code == 201
        event = AuditEvent.objects.of(alice).get()
        assert (event.action, event.actor_kind) == ("phone_number.claimed", "system")
        assert event.detail == {"number": NUMBER}
        assert (event.network, event.request_id) == ("", "")
        with connection.cursor() as cursor:
            cursor.execute("SELECT args::text FROM procrastinate_jobs")
            ((arguments,),) = cursor.fetchall()
        send_mail(**json.loads(arguments))
        (message,) = mail.outbox
        assert message.to == [alice.email]
        assert NUMBER in message.subject
        assert bob.email not in message.body

    def test_it_stays_if_the_request_is_refused(self, alice: Account, bob_api: APIClient) -> None:
        number_of(alice)
        assert connect(bob_api, **self.MOVES, onCallEndUrl=None).status_code == 400
        assert PhoneNumber.objects.get().account == alice
        assert not AuditEvent.objects.of(alice).exists()

    def test_a_wrong_token_moves_nothing(self, alice: Account, bob_api: APIClient) -> None:
        number_of(alice)
        response = connect(bob_api, **self.MOVES, twilioAuthToken="guessed")
        assert response.json()["code"] == "phone_number_not_proven"
        assert PhoneNumber.objects.get().account == alice

    def test_a_released_number_is_registered(
        self, alice: Account, bob: Account, bob_api: APIClient
    ) -> None:
        ReleasedNumber.objects.create(
            phone_number=NUMBER, account=alice, verified_at=timezone.now()
        )
        assert connect(bob_api).status_code == 201
        assert not ReleasedNumber.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_accounts_that_connect_a_number_at_once_one_has_it(
    twilio: NumbersAtTwilio, alice: Account, bob: Account, carol: Account
) -> None:
    number_of(carol)
    twilio.give(NUMBER)
    at_once = Barrier(2)

    def take(account: Account) -> str:
        at_once.wait(10)
        try:
            phone_number_connect(
                account=account,
                phone_number=NUMBER,
                credentials=TwilioCredentials(ACCOUNT_SID, AUTH_TOKEN),
                consents=Consents(move_from_other_account=True),
                on_call_start_url=URLS["onCallStartUrl"],
                on_call_end_url=URLS["onCallEndUrl"],
            )
        except ApiError as refusal:
            return refusal.code
        return "connected"

    with ThreadPoolExecutor(2) as threads:
        told = sorted(threads.map(lambda account: run_and_let_go(take, account), [alice, bob]))
    # Both at the same moment, or one after the other.
    assert told in (["connected", "phone_number_taken"], ["connected", "connected"])
    assert PhoneNumber.objects.get().account in (alice, bob)
    assert AuditEvent.objects.of(carol).get().action == "phone_number.claimed"


@pytest.mark.django_db
class TestTwilio:
    @pytest.mark.parametrize(
        ("status", "twilio_code", "shown"),
        [
            (401, 20003, (400, "phone_number_not_proven")),
            (403, 20005, (400, "phone_number_not_proven")),
            (429, 20429, (400, "phone_number_not_proven")),
            (500, 20500, (502, "carrier_unavailable")),
        ],
    )
    @pytest.mark.parametrize("path", [CONNECT, LIST])
    def test_its_errors_are_told(
        self,
        alice_api: APIClient,
        settings: Settings,
        path: str,
        status: int,
        twilio_code: int,
        shown: tuple[int, str],
    ) -> None:
        with running_twilio() as refusing:
            settings.TWILIO_API_URL = refusing.url
            refusing.refuses(status, twilio_code, "No.")
            response = alice_api.post(path, BODY if path == CONNECT else CREDENTIALS)
        assert (response.status_code, response.json()["code"]) == shown
        assert not PhoneNumber.objects.exists()

    def test_a_webhook_that_it_does_not_change_leaves_the_number_registered(
        self, twilio: NumbersAtTwilio, alice_api: APIClient, settings: Settings
    ) -> None:
        settings.ENGINE_URL = "not-a-url"
        twilio.give(NUMBER)
        response = connect(alice_api)
        assert (response.status_code, response.json()["code"]) == (400, "carrier_rejected")
        assert "The number is registered" in response.json()["error"]
        assert "21502" in response.json()["error"]
        assert PhoneNumber.objects.get().phone_number == NUMBER
        settings.ENGINE_URL = VOICE_URL.removesuffix("/voice")
        assert connect(alice_api).status_code == 200

    def test_tokens_cannot_be_guessed(
        self, twilio: NumbersAtTwilio, alice_api: APIClient, bob_api: APIClient
    ) -> None:
        right = {"twilioAccountSid": FOREIGN_SID, "twilioAuthToken": "another-token"}
        statuses = []
        for guess in range(11):
            wrong = {"twilioAccountSid": ACCOUNT_SID, "twilioAuthToken": f"guess-{guess}"}
            assert alice_api.post(LIST, right).status_code in (200, 429)
            statuses.append(alice_api.post(LIST, wrong).status_code)
        assert statuses == [400] * 10 + [429]
        limited = alice_api.post(LIST, right)
        assert limited.status_code == 429
        assert int(limited["Retry-After"]) > 60
        assert connect(alice_api).status_code == 429
        assert bob_api.post(LIST, CREDENTIALS).status_code == 200

    def test_one_account_asks_at_most_sixty_times_a_minute(
        self, twilio: NumbersAtTwilio, alice_api: APIClient
    ) -> None:
        statuses = {alice_api.post(LIST, CREDENTIALS).status_code for _ in range(60)}
        assert statuses == {200}
        assert alice_api.post(LIST, CREDENTIALS).status_code == 429

    def test_the_credentials_are_nowhere(
        self, twilio: NumbersAtTwilio, alice_api: APIClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        twilio.give(NUMBER)
        with CaptureQueriesContext(connection) as queries:
            responses = [
                alice_api.post(LIST, CREDENTIALS),
                connect(alice_api),
                connect(alice_api, phoneNumber=SECOND, onCallEndUrl=None),
                connect(alice_api, phoneNumber="555"),
            ]
        assert [response.status_code for response in responses] == [200, 201, 400, 400]
        statements = " ".join(query["sql"] for query in queries)
        for text in (statements, caplog.text, *(str(each.content) for each in responses)):
            assert AUTH_TOKEN not in text


@pytest.mark.django_db
class TestList:
    def test_it_works(
        self, twilio: NumbersAtTwilio, alice: Account, bob: Account, alice_api: APIClient
    ) -> None:
        own = number_of(alice)
        number_of(bob, phone_number=SECOND)
        twilio.give(NUMBER, voice_url=VOICE_URL, friendly_name="Front desk")
        twilio.give(SECOND, trunk_sid="TK" + "1" * 32, voice_url=VOICE_URL)
        twilio.give("+12125550145", can_voice=False)
        twilio.give("+14165550123")
        response = alice_api.post(LIST, CREDENTIALS)
        assert response.status_code == 200
        body = response.json()
        assert_described(body, "listTwilioNumbers", 200)
        assert body["nextPage"] is None
        shown = {number["phoneNumber"]: number for number in body["numbers"]}
        assert "+12125550145" not in shown
        assert "+14165550123" not in shown
        assert shown[NUMBER] == {
            "phoneNumber": NUMBER,
            "twilioName": "Front desk",
            "voiceUrl": VOICE_URL,
            "voiceMethod": "POST",
            "voiceApplicationSid": None,
            "trunkSid": None,
            "pointsHere": True,
            "registeredBy": "you",
            "id": own.id,
        }
        assert shown[SECOND]["registeredBy"] == "other"
        assert (shown[SECOND]["pointsHere"], shown[SECOND]["id"]) == (False, None)
        in_stock = shown["+15551234567"]
        assert (in_stock["registeredBy"], in_stock["pointsHere"]) == (None, False)

    def test_pages_follow_each_other(self, twilio: NumbersAtTwilio, alice_api: APIClient) -> None:
        numbers = [f"+1212555{count:04}" for count in range(100, 200)]
        for number in numbers:
            twilio.give(number)
        found: list[str] = []
        after = None
        for _ in range(3):
            body = alice_api.post(LIST, CREDENTIALS | {"after": after}).json()
            found += [number["phoneNumber"] for number in body["numbers"]]
            after = body["nextPage"]
        assert after is None
        assert set(numbers) < set(found)
        assert len(found) == len(set(found)) == 103

    @pytest.mark.parametrize("after", ["", "1", "1-PA&Page=2", "1-" + "x" * 101, 7])
    def test_a_cursor_that_is_none_is_refused(
        self, twilio: NumbersAtTwilio, alice_api: APIClient, after: Any
    ) -> None:
        response = alice_api.post(LIST, CREDENTIALS | {"after": after})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["after"]
        assert not twilio.requests

    def test_the_number_of_queries_is_fixed(
        self, twilio: NumbersAtTwilio, alice: Account, alice_api: APIClient
    ) -> None:
        alice_api.post(LIST, CREDENTIALS)  # the first use of a key is noted
        counts = []
        for most in (1, 20):
            for count in range(most):
                number = f"+1212555{100 + count:04}"
                twilio.give(number)
                PhoneNumber.objects.get_or_create(account=alice, phone_number=number)
            with CaptureQueriesContext(connection) as queries:
                alice_api.post(LIST, CREDENTIALS)
            counts.append(len(queries))
        assert counts[0] == counts[1]
