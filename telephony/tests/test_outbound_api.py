"""``POST /api/outbound``"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone
from django.views.debug import ExceptionReporter
from pytest_django import Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.models import Account
from telephony.links import call_id_of
from telephony.models import Call, CallbackDelivery, PhoneNumber
from telephony.outbound import outbound_call_taken
from telephony.services import call_end
from telephony.tests.twilio_stand_in import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CALL_SID,
    Received,
    Twilio,
    call_resource,
    running_twilio,
)
from usage.models import DailyUsage, UsageRecord
from usage.spending import spending_limit_set

FROM = "+15551234567"
TO = "+15559876543"
BODY = {
    "to": TO,
    "from": FROM,
    "onCallStartUrl": "https://your-backend.com/calls/start",
    "onCallEndUrl": "https://your-backend.com/calls/end",
    "twilioAccountSid": ACCOUNT_SID,
    "twilioAuthToken": AUTH_TOKEN,
}


@pytest.fixture(autouse=True)
def production(settings: Settings) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False


@pytest.fixture(autouse=True)
def twilio(settings: Settings) -> Iterator[Twilio]:
    with running_twilio() as twilio:
        settings.TWILIO_API_URL = twilio.url
        yield twilio


@pytest.fixture
def number(alice: Account) -> PhoneNumber:
    return number_of(alice)


def number_of(account: Account, number: str = FROM) -> PhoneNumber:
    return PhoneNumber.objects.create(
        account=account,
        phone_number=number,
        on_call_start_url="https://registered.example.com/start",
        on_call_end_url="https://registered.example.com/end",
    )


def place(api: APIClient, without: str = "", key: str = "", **changes: Any) -> Response:
    body = {**BODY, **changes}
    body.pop(without, None)
    headers = {"Idempotency-Key": key} if key else {}
    return api.post("/api/outbound", body, headers=headers)


def call_of(account: Account, **fields: Any) -> Call:
    values = {
        "direction": Call.Direction.OUTBOUND,
        "status": Call.Status.QUEUED,
        "caller_phone": FROM,
        "called_number": TO,
        "on_call_start_url": BODY["onCallStartUrl"],
        "on_call_end_url": BODY["onCallEndUrl"],
    }
    return Call.objects.create(account=account, **values | fields)


@pytest.mark.django_db
@pytest.mark.usefixtures("number")
class TestPlace:
    def test_it_works(self, alice: Account, alice_api: APIClient, twilio: Twilio) -> None:
        response = place(alice_api, metadata={"customerId": "cust_123"})
        assert response.status_code == 201
        call = Call.objects.get()
        assert response.json() == {"id": call.id, "callSid": CALL_SID, "status": "queued"}
        assert (call.account, call.direction, call.status) == (alice, "outbound", "queued")
        assert (call.caller_phone, call.called_number) == (FROM, TO)
        assert (call.call_sid, call.metadata) == (CALL_SID, {"customerId": "cust_123"})
        assert call.on_call_start_url == BODY["onCallStartUrl"]
        assert call.on_call_end_url == BODY["onCallEndUrl"]
        assert call.on_error_url == ""
        assert call.accepted_at
        assert call.ended_at is None
        assert [event.kind for event in call.events.all()] == ["placed"]

    def test_twilio_is_given_our_links(self, alice_api: APIClient, twilio: Twilio) -> None:
        call_id = place(alice_api).json()["id"]
        form = twilio.received[0].form
        assert (form["To"], form["From"], form["Timeout"]) == ([TO], [FROM], ["30"])
        assert "MachineDetection" not in form
        for purpose, field in (("answer", "Url"), ("status", "StatusCallback")):
            path, _, token = form[field][0].rpartition("/")
            assert path.endswith(f"/voice/{purpose}")
            assert call_id_of(purpose, token) == call_id

    def test_what_is_optional_is_passed_on(self, alice_api: APIClient, twilio: Twilio) -> None:
        response = place(
            alice_api,
            onErrorUrl="https://your-backend.com/calls/error",
            machineDetection="DetectMessageEnd",
            timeout=120,
            metadata=["any", {"json": None}],
        )
        assert response.status_code == 201
        form = twilio.received[0].form
        assert (form["Timeout"], form["MachineDetection"]) == (["120"], ["DetectMessageEnd"])
        call = Call.objects.get()
        assert call.on_error_url == "https://your-backend.com/calls/error"
        assert call.metadata == ["any", {"json": None}]

    def test_null_is_as_good_as_absent(self, alice_api: APIClient, twilio: Twilio) -> None:
        optional = ("onErrorUrl", "metadata", "machineDetection", "timeout")
        assert place(alice_api, **dict.fromkeys(optional)).status_code == 201
        assert twilio.received[0].form["Timeout"] == ["30"]

    @pytest.mark.parametrize(
        "field",
        ["to", "from", "onCallStartUrl", "onCallEndUrl", "twilioAccountSid", "twilioAuthToken"],
    )
    def test_what_is_missing_is_named(
        self, alice_api: APIClient, twilio: Twilio, field: str
    ) -> None:
        response = place(alice_api, without=field)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [field]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("to", "5559876543"),
            ("to", "+1555987654"),
            ("to", "+155598765432"),
            ("to", "sip:alice@example.com"),
            ("to", 15559876543),
            ("from", "+445551234567"),
            ("from", ""),
            ("onCallStartUrl", "http://your-backend.com/"),
            ("onCallEndUrl", "https://10.0.0.1/"),
            ("onErrorUrl", "https://user@your-backend.com/"),
            ("twilioAccountSid", "AC123"),
            ("twilioAccountSid", "../../Accounts/AC" + "0" * 32),
            ("twilioAuthToken", ""),
            ("twilioAuthToken", "two\r\nlines"),
            ("twilioAuthToken", {"a": 1}),
            ("machineDetection", "enable"),
            ("timeout", 4),
            ("timeout", 121),
            ("timeout", "soon"),
            ("timeout", "30"),
            ("timeout", True),
            ("metadata", "x" * (16 * 1024)),
            ("metadata", "\0"),
            ("metadata", {"a": {"\0": 1}}),
        ],
    )
    def test_what_is_wrong_is_named(
        self, alice_api: APIClient, twilio: Twilio, field: str, value: Any
    ) -> None:
        response = place(alice_api, **{field: value})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [field]
        assert not Call.objects.exists()
        assert not twilio.received

    def test_metadata_that_nests_too_deeply_is_refused(self, alice_api: APIClient) -> None:
        metadata: Any = 0
        for _ in range(500):
            metadata = [metadata]
        response = place(alice_api, metadata=metadata)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["metadata"]

    def test_16_kilobytes_of_metadata_are_taken(self, alice_api: APIClient) -> None:
        assert place(alice_api, metadata="x" * (16 * 1024 - 2)).status_code == 201

    @pytest.mark.parametrize(
        ("to", "country"),
        [("+442079460958", "GB"), ("+18765551234", "JM"), ("+9991234567", "no known")],
    )
    def test_other_countries_are_refused(
        self, alice_api: APIClient, twilio: Twilio, to: str, country: str
    ) -> None:
        response = place(alice_api, to=to)
        assert response.status_code == 400
        body = response.json()
        assert (body["code"], list(body["fields"])) == ("country_not_allowed", ["to"])
        assert country in body["error"]
        assert not twilio.received

    @pytest.mark.parametrize("to", ["+14165550123", "+12125550123", "+15550000000"])
    def test_the_us_and_canada_may_be_called(self, alice_api: APIClient, to: str) -> None:
        assert place(alice_api, to=to).status_code == 201

    @pytest.mark.parametrize(
        ("to", "what"),
        [
            ("+19002345678", "premium-rate"),
            ("+15002345678", "personal"),
            ("+19112345678", "not in use"),
        ],
    )
    def test_premium_and_service_numbers_are_refused(
        self, alice_api: APIClient, twilio: Twilio, to: str, what: str
    ) -> None:
        response = place(alice_api, to=to)
        assert response.status_code == 400
        body = response.json()
        assert (body["code"], list(body["fields"])) == ("number_not_allowed", ["to"])
        assert what in body["error"]
        assert not twilio.received
        assert not Call.objects.exists()

    def test_so_is_one_that_was_registered_when_it_could_be(
        self, alice: Account, alice_api: APIClient, twilio: Twilio
    ) -> None:
        number_of(alice, "+19002345678")
        response = place(alice_api, **{"from": "+19002345678"})
        assert response.status_code == 400
        body = response.json()
        assert (body["code"], list(body["fields"])) == ("number_not_allowed", ["from"])
        assert not twilio.received

    def test_555_numbers_are_for_the_sandbox(
        self, alice_api: APIClient, settings: Settings, twilio: Twilio
    ) -> None:
        settings.SANDBOX = False
        assert place(alice_api).json()["code"] == "number_not_allowed"
        assert not twilio.received

    def test_a_number_does_not_call_itself(self, alice_api: APIClient, twilio: Twilio) -> None:
        response = place(alice_api, to=FROM)
        assert response.status_code == 400
        body = response.json()
        assert (body["code"], list(body["fields"])) == ("same_number", ["to"])
        assert not twilio.received
        assert not Call.objects.exists()

    def test_an_operator_can_allow_more(self, alice_api: APIClient, settings: Settings) -> None:
        settings.ALLOWED_COUNTRIES = ["GB"]
        assert place(alice_api, to="+442079460958").status_code == 201
        assert place(alice_api, to="+14165550123").status_code == 400
        assert place(alice_api, to="+449012345678").json()["code"] == "number_not_allowed"

    def test_the_number_must_be_ones_own(
        self, bob: Account, alice_api: APIClient, bob_api: APIClient, twilio: Twilio
    ) -> None:
        number_of(bob, "+15551111111")
        for api, number in (
            (bob_api, FROM),
            (alice_api, "+15551111111"),
            (alice_api, "+15552222222"),
        ):
            response = place(api, **{"from": number})
            assert response.status_code == 403
            assert response.json()["code"] == "phone_number_not_owned"
        assert not Call.objects.exists()
        assert not twilio.received

    def test_the_number_must_be_active(
        self, number: PhoneNumber, alice_api: APIClient, twilio: Twilio
    ) -> None:
        PhoneNumber.objects.update(is_active=False)
        assert place(alice_api).json()["code"] == "phone_number_not_owned"
        assert not twilio.received

    def test_only_active_accounts_may(
        self,
        anonymous_api: APIClient,
        carol_api: APIClient,
        dave_api: APIClient,
        twilio: Twilio,
    ) -> None:
        assert place(anonymous_api).status_code == 401
        assert place(carol_api).json()["code"] == "payment_required"
        assert place(dave_api).json()["code"] == "account_suspended"
        assert not twilio.received

    def test_there_is_a_limit_to_the_calls_at_a_time(
        self, alice: Account, bob: Account, alice_api: APIClient, settings: Settings, twilio: Twilio
    ) -> None:
        settings.MAX_CONCURRENT_CALLS = 2
        call_of(bob)
        call_of(alice, ended_at=timezone.now(), status=Call.Status.BUSY)
        running = call_of(alice)
        assert place(alice_api).status_code == 201
        response = place(alice_api)
        assert response.status_code == 429
        assert response.json()["code"] == "too_many_calls"
        assert len(twilio.received) == 1
        call_end(call_id=running.id, status=Call.Status.COMPLETED, reason="caller_hangup")
        twilio.body = call_resource(sid="CA" + "1" * 32)
        assert place(alice_api).status_code == 201

    def test_the_spending_limit_refuses_and_lets_in_once_it_is_raised(
        self, alice: Account, bob: Account, alice_api: APIClient, twilio: Twilio
    ) -> None:
        today = timezone.now().date()
        DailyUsage.objects.create(account=alice, day=today, calls=1, minutes=100)
        DailyUsage.objects.create(account=bob, day=today, calls=1, minutes=9_999)
        running = call_of(alice)
        spending_limit_set(account=alice, amount=Decimal("5.00"))
        response = place(alice_api, key="again")
        assert response.status_code == 402
        assert response.json()["code"] == "spending_limit_reached"
        assert "$5.00" in response.json()["error"]
        assert not twilio.received
        assert list(Call.objects.live()) == [running]
        spending_limit_set(account=alice, amount=Decimal("5.01"))
        assert place(alice_api, key="again").status_code == 201


@pytest.mark.django_db
@pytest.mark.usefixtures("number")
class TestCarrier:
    def test_a_refusal_is_told_and_ends_the_call(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        twilio.refuses(400, 21219, "The number +15559876543 is unverified.")
        response = place(alice_api)
        assert response.status_code == 400
        body = response.json()
        assert body["code"] == "carrier_rejected"
        assert "The number +15559876543 is unverified." in body["error"]
        assert "21219" in body["error"]
        call = Call.objects.get()
        assert (call.status, call.ended_reason) == ("failed", "failed")
        assert call.ended_at
        assert call.accepted_at is None
        assert call.events.get(kind="carrier_rejected").detail["code"] == 21219
        assert not UsageRecord.objects.exists()
        assert not CallbackDelivery.objects.exists()

    def test_where_twilio_cannot_be_reached_the_call_has_ended(
        self, alice_api: APIClient, settings: Settings
    ) -> None:
        settings.TWILIO_API_URL = "http://127.0.0.1:1"
        response = place(alice_api)
        assert response.status_code == 502
        assert response.json()["code"] == "carrier_unavailable"
        assert Call.objects.get().status == "failed"
        assert not UsageRecord.objects.exists()

    def test_a_call_that_may_have_been_placed_stays_open(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        twilio.status, twilio.body = 500, b"oops"
        response = place(alice_api)
        assert response.status_code == 502
        call = Call.objects.get()
        assert response.json()["code"] == "carrier_unavailable"
        assert f"/api/calls/{call.id}" in response.json()["error"]
        assert (call.status, call.ended_at, call.call_sid) == ("queued", None, None)

    def test_a_late_callback_completes_it(self, alice_api: APIClient, twilio: Twilio) -> None:
        twilio.status, twilio.body = 500, b"oops"
        assert place(alice_api).status_code == 502
        call = Call.objects.get()
        outbound_call_taken(call_id=call.id, call_sid=CALL_SID)
        call_end(call_id=call.id, status=Call.Status.BUSY, reason="busy")
        call.refresh_from_db()
        assert (call.call_sid, call.status) == (CALL_SID, "busy")
        assert UsageRecord.objects.get().call_sid == CALL_SID
        assert CallbackDelivery.objects.get().kind == "onCallEnd"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("number")
class TestMeanwhile:
    """The state while Twilio is being asked; the stand-in responds from another thread."""

    def test_the_call_is_committed_and_no_connection_is_kept(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        ours = connections["default"]
        seen: list[Any] = []

        def look(received: Received) -> None:
            try:
                seen.append(Call.objects.values_list("status", "call_sid").get())
                seen.append(ours.connection)
            finally:
                connection.close()

        twilio.acts = look
        assert place(alice_api).status_code == 201
        assert seen == [("queued", None), None]

    def test_a_callback_that_is_quicker_than_the_answer_stays(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        noted: list[Call] = []

        def end(received: Received) -> None:
            try:
                call = Call.objects.get()
                outbound_call_taken(call_id=call.id, call_sid=CALL_SID)
                call_end(call_id=call.id, status=Call.Status.NO_ANSWER, reason="no_answer")
                noted.append(Call.objects.get())
            finally:
                connection.close()

        twilio.acts = end
        assert place(alice_api).status_code == 201
        call = Call.objects.get()
        assert (call.status, call.ended_reason) == ("no-answer", "no_answer")
        assert call.accepted_at == noted[0].accepted_at
        assert call.ended_at == noted[0].ended_at
        assert [event.kind for event in call.events.order_by("id")] == ["placed", "ended"]
        assert UsageRecord.objects.count() == CallbackDelivery.objects.count() == 1

    def test_the_limit_holds_for_calls_that_come_at_once(
        self, alice_api: APIClient, settings: Settings
    ) -> None:
        settings.MAX_CONCURRENT_CALLS = 1
        barrier = Barrier(4, timeout=10)

        def run(_: int) -> int:
            try:
                barrier.wait()
                return place(alice_api).status_code
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(run, range(4))) == [201, 429, 429, 429]
        assert Call.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("number")
class TestCredentials:
    """Twilio's token is used, and then it is nowhere."""

    def test_they_are_not_kept(
        self, alice_api: APIClient, twilio: Twilio, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, logger="twilio")
        answers = [place(alice_api)]
        twilio.refuses(401, 20003, "Authenticate")
        answers.append(place(alice_api))
        twilio.status = 500
        answers.append(place(alice_api))
        answers.append(place(alice_api, timeout=1))
        assert [answer.status_code for answer in answers] == [201, 400, 502, 400]
        assert Call.objects.count() == len(twilio.received) == 3
        for text in (all_of_the_database(), caplog.text, *(str(a.content) for a in answers)):
            assert AUTH_TOKEN not in text

    @pytest.mark.parametrize("debug", [False, True])
    def test_they_are_in_no_report_of_a_defect(
        self,
        alice_api: APIClient,
        settings: Settings,
        caplog: pytest.LogCaptureFixture,
        debug: bool,
    ) -> None:
        del settings.ENGINE_URL
        settings.DEBUG = debug
        response = place(alice_api)
        assert response.status_code == 500
        assert response.json()["code"] == "internal_error"
        error = next(
            record.msg["exc_info"] for record in caplog.records if record.levelname == "ERROR"
        )
        report = ExceptionReporter(None, type(error), error, error.__traceback__)
        assert "outbound_call_dial" in report.get_traceback_html()
        assert AUTH_TOKEN not in report.get_traceback_html() + report.get_traceback_text()
        assert AUTH_TOKEN not in caplog.text + str(response.content)


def all_of_the_database() -> str:
    tables = connection.introspection.table_names()
    assert "telephony_call" in tables
    with connection.cursor() as cursor:
        rows = []
        for table in tables:
            cursor.execute(f'SELECT row::text FROM "{table}" AS row')  # noqa: S608
            rows += [str(row) for row in cursor.fetchall()]
    return "\n".join(rows)
