"""``/api/phone-numbers``"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.models import Account
from core.tests.described import validator
from core.tests.waiting import until_it_waits
from telephony.models import PhoneNumber, ReleasedNumber
from telephony.numbers import (
    RESTS_FOR,
    phone_number_remove,
    phone_numbers_remove_all,
    released_numbers_forget,
)
from telephony.tests.twilio_stand_in import ACCOUNT_SID, AUTH_TOKEN, Twilio, running_twilio

NUMBER = "+15551234567"
OTHER_SID = "AC" + "e" * 32
URLS = {
    "onCallStartUrl": "https://your-backend.com/calls/start",
    "onCallEndUrl": "https://your-backend.com/calls/end",
    "onErrorUrl": "https://your-backend.com/calls/error",
}


@pytest.fixture(autouse=True)
def production(settings: Settings) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False


def register(api: APIClient, number: Any = NUMBER, **fields: Any) -> Response:
    body = {"phoneNumber": number, **URLS, **fields}
    return api.post(
        "/api/phone-numbers", {name: value for name, value in body.items() if value != "absent"}
    )


def number_of(account: Account, number: str = NUMBER) -> PhoneNumber:
    return PhoneNumber.objects.create(
        account=account,
        phone_number=number,
        on_call_start_url=URLS["onCallStartUrl"],
        on_call_end_url=URLS["onCallEndUrl"],
        on_error_url=URLS["onErrorUrl"],
    )


@pytest.mark.django_db
class TestRegister:
    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        response = register(alice_api)
        assert response.status_code == 201
        number = response.json()["phoneNumber"]
        assert list(response.json()) == ["phoneNumber"]
        assert re.fullmatch(r"c[0-9a-z]{24}", number.pop("id"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", number.pop("createdAt"))
        assert number == {"phoneNumber": NUMBER, "name": None, **URLS, "isActive": True}
        assert PhoneNumber.objects.get().account == alice

    @pytest.mark.parametrize("on_error_url", ["absent", None])
    def test_the_error_url_is_optional(self, alice_api: APIClient, on_error_url: Any) -> None:
        response = register(alice_api, onErrorUrl=on_error_url)
        assert response.status_code == 201
        assert response.json()["phoneNumber"]["onErrorUrl"] is None

    def test_ones_own_number_is_updated(self, alice: Account, alice_api: APIClient) -> None:
        number = number_of(alice)
        PhoneNumber.objects.update(is_active=False)
        response = register(
            alice_api, onCallStartUrl="https://new.example.com/start", onErrorUrl="absent"
        )
        assert response.status_code == 200
        shown = response.json()["phoneNumber"]
        assert shown["id"] == number.id
        assert shown["onCallStartUrl"] == "https://new.example.com/start"
        assert (shown["onErrorUrl"], shown["isActive"]) == (None, False)
        assert PhoneNumber.objects.count() == 1

    def test_the_number_of_another_is_taken(self, alice: Account, bob_api: APIClient) -> None:
        number_of(alice)
        response = register(bob_api, onCallStartUrl="https://evil.example.com/start")
        assert response.status_code == 409
        assert response.json()["code"] == "phone_number_taken"
        number = PhoneNumber.objects.get()
        assert number.account == alice
        assert number.on_call_start_url == URLS["onCallStartUrl"]

    @pytest.mark.parametrize(
        "number",
        [
            "5551234567",
            "+1555123456",
            "+155512345678",
            "+445551234567",
            "+1 555 123 4567",
            "+1555123456a",
            "+1555123456\u0663",
            "",
            None,
            15551234567,
            ["+15551234567"],
            "absent",
        ],
    )
    def test_only_us_numbers_are_taken(self, alice_api: APIClient, number: Any) -> None:
        response = register(alice_api, number)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["phoneNumber"]

    @pytest.mark.parametrize(
        ("number", "code"),
        [
            ("+14165550123", "country_not_allowed"),
            ("+18765551234", "country_not_allowed"),
            ("+19002345678", "number_not_allowed"),
            ("+17002345678", "number_not_allowed"),
            ("+12129112345", "number_not_allowed"),
            ("+11123456789", "number_not_allowed"),
        ],
    )
    def test_only_ordinary_ones_are(
        self, alice: Account, alice_api: APIClient, number: str, code: str
    ) -> None:
        response = register(alice_api, number)
        assert response.status_code == 400
        body = response.json()
        assert (body["code"], list(body["fields"])) == (code, ["phoneNumber"])
        assert not PhoneNumber.objects.exists()

    def test_555_numbers_are_for_the_sandbox(
        self, alice_api: APIClient, settings: Settings
    ) -> None:
        settings.SANDBOX = False
        assert register(alice_api).json()["code"] == "number_not_allowed"
        assert register(alice_api, "+18002345678").status_code == 201

    @pytest.mark.parametrize("field", list(URLS))
    @pytest.mark.parametrize(
        "url",
        [
            "http://your-backend.com/calls",
            "https://localhost/calls",
            "https://127.0.0.1/calls",
            "https://192.168.1.10/calls",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/calls",
            "https://metadata.google.internal/",
            "https://user:password@your-backend.com/calls",
            "your-backend.com/calls",
            {"url": "https://your-backend.com"},
        ],
    )
    def test_a_url_that_may_not_be_called_is_named(
        self, alice_api: APIClient, field: str, url: Any
    ) -> None:
        response = register(alice_api, **{field: url})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [field]
        assert not PhoneNumber.objects.exists()

    def test_all_that_is_wrong_is_said_at_once(self, alice_api: APIClient) -> None:
        response = alice_api.post("/api/phone-numbers", {})
        assert response.status_code == 400
        assert set(response.json()["fields"]) == {"phoneNumber", "onCallStartUrl", "onCallEndUrl"}

    def test_development_takes_local_urls(self, alice_api: APIClient, settings: Settings) -> None:
        settings.CALLBACK_ALLOW_PRIVATE = True
        response = register(alice_api, onCallStartUrl="http://127.0.0.1:8002/backend/start")
        assert response.status_code == 201

    def test_only_active_accounts_may(
        self, anonymous_api: APIClient, carol_api: APIClient, dave_api: APIClient
    ) -> None:
        assert register(anonymous_api).status_code == 401
        assert register(carol_api).status_code == 402
        assert register(dave_api).status_code == 403
        assert not PhoneNumber.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestRace:
    def test_one_of_two_accounts_gets_it(
        self, alice: Account, alice_api: APIClient, bob_api: APIClient
    ) -> None:
        assert sorted(race([alice_api, bob_api] * 3)) == [200, 200, 201, 409, 409, 409]
        assert PhoneNumber.objects.count() == 1

    def test_the_same_account_registers_it_once(self, alice_api: APIClient) -> None:
        assert sorted(race([alice_api] * 4)) == [200, 200, 200, 201]
        assert PhoneNumber.objects.count() == 1

    def test_one_that_is_being_released_is_held_back(
        self, alice: Account, alice_api: APIClient, bob_api: APIClient
    ) -> None:
        number = number_of(alice)
        PhoneNumber.objects.update(twilio_account_sid=ACCOUNT_SID, verified_at=timezone.now())
        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                phone_number_remove(account=alice, id=number.id)
                registering = pool.submit(race, [bob_api])
                until_it_waits(registering)
            assert registering.result(timeout=10) == [409]
        assert not PhoneNumber.objects.exists()
        assert ReleasedNumber.objects.get().account == alice


def race(apis: list[APIClient]) -> list[int]:
    """Register one number from all clients at once, each in its thread; return the statuses."""
    barrier = Barrier(len(apis), timeout=10)

    def run(api: APIClient) -> int:
        try:
            barrier.wait()
            return register(api).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(len(apis)) as pool:
        return list(pool.map(run, apis))


@pytest.mark.django_db
class TestList:
    def test_it_works(self, alice: Account, bob: Account, alice_api: APIClient) -> None:
        ids = [number_of(alice, f"+1555123456{digit}").id for digit in (3, 1, 2)]
        number_of(bob, "+15551234569")
        response = alice_api.get("/api/phone-numbers")
        assert response.status_code == 200
        assert [number["id"] for number in response.json()["phoneNumbers"]] == ids

    def test_it_stays_readable_without_paying(
        self, carol: Account, carol_api: APIClient, dave_api: APIClient
    ) -> None:
        number_of(carol)
        assert len(carol_api.get("/api/phone-numbers").json()["phoneNumbers"]) == 1
        assert dave_api.get("/api/phone-numbers").json() == {"phoneNumbers": []}

    def test_the_number_of_queries_is_fixed(
        self,
        alice: Account,
        alice_api: APIClient,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        alice_api.get("/api/phone-numbers")
        for digit in range(3):
            number_of(alice, f"+1555123456{digit}")
        with django_assert_num_queries(2):  # the key, the numbers
            assert len(alice_api.get("/api/phone-numbers").json()["phoneNumbers"]) == 3


@pytest.mark.django_db
class TestChange:
    @pytest.fixture
    def number(self, alice: Account) -> PhoneNumber:
        return number_of(alice)

    def patch(self, api: APIClient, id: str, **changes: Any) -> Response:
        return api.patch(f"/api/phone-numbers/{id}", changes)

    def test_it_works(self, number: PhoneNumber, alice_api: APIClient) -> None:
        url = "https://new.example.com/end"
        response = self.patch(alice_api, number.id, onCallEndUrl=url, isActive=False)
        assert response.status_code == 200
        shown = response.json()["phoneNumber"]
        assert {name: shown[name] for name in URLS} == {**URLS, "onCallEndUrl": url}
        assert shown["isActive"] is False
        number.refresh_from_db()
        assert (number.on_call_end_url, number.is_active) == (url, False)

    def test_null_takes_the_error_url_away(self, number: PhoneNumber, alice_api: APIClient) -> None:
        response = self.patch(alice_api, number.id, onErrorUrl=None)
        assert response.json()["phoneNumber"]["onErrorUrl"] is None
        number.refresh_from_db()
        assert number.on_error_url == ""

    def test_its_name_is_set_and_taken_away(
        self, number: PhoneNumber, alice_api: APIClient
    ) -> None:
        for name, shown in (("Reservations", "Reservations"), (None, None)):
            response = self.patch(alice_api, number.id, name=name)
            assert response.json()["phoneNumber"]["name"] == shown
        number.refresh_from_db()
        assert number.name == ""

    @pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines", 7])
    def test_what_is_no_name_is_refused(
        self, number: PhoneNumber, alice_api: APIClient, name: Any
    ) -> None:
        response = self.patch(alice_api, number.id, name=name)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["name"]

    def test_no_change_is_one_too(self, number: PhoneNumber, alice_api: APIClient) -> None:
        response = self.patch(alice_api, number.id)
        assert response.status_code == 200
        assert response.json()["phoneNumber"]["id"] == number.id

    @pytest.mark.parametrize(
        "change",
        [
            {"phoneNumber": "+15557654321"},
            {"phoneNumber": None},
            {"onCallStartUrl": "http://example.com/"},
            {"onCallStartUrl": None},
            {"onCallEndUrl": ""},
            {"isActive": "maybe"},
            {"isActive": 0},
            {"isActive": None},
        ],
    )
    def test_what_cannot_be_is_refused(
        self, number: PhoneNumber, alice_api: APIClient, change: dict[str, Any]
    ) -> None:
        response = self.patch(alice_api, number.id, **change)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == list(change)

    @pytest.mark.parametrize("number", [NUMBER, None, [1]])
    def test_the_description_says_that_a_number_stays(self, number: Any) -> None:
        described = validator(["components", "schemas", "PhoneNumberChangesRequest"], strict=True)
        assert described.is_valid({"isActive": True})
        assert not described.is_valid({"isActive": True, "phoneNumber": number})

    def test_another_account_gets_404(self, number: PhoneNumber, bob_api: APIClient) -> None:
        assert self.patch(bob_api, number.id, isActive=False).status_code == 404
        number.refresh_from_db()
        assert number.is_active

    @pytest.mark.parametrize("id", ["c" + "0" * 24, "1", "%00", "x" * 300])
    def test_an_unknown_number_is_404(self, alice_api: APIClient, id: str) -> None:
        assert self.patch(alice_api, id, isActive=False).status_code == 404

    def test_only_active_accounts_may(
        self, carol: Account, carol_api: APIClient, dave_api: APIClient
    ) -> None:
        number = number_of(carol)
        assert self.patch(carol_api, number.id, isActive=False).status_code == 402
        assert self.patch(dave_api, number.id, isActive=False).status_code == 403


@pytest.mark.django_db
class TestItsTwilioAccount:
    """The Twilio account that a number's calls come from."""

    @pytest.fixture
    def number(self, alice: Account) -> PhoneNumber:
        number = number_of(alice)
        number.twilio_account_sid, number.verified_at = ACCOUNT_SID, timezone.now()
        number.refused_account_sid, number.refused_at = OTHER_SID, timezone.now()
        number.save()
        return number

    def test_it_is_shown(self, number: PhoneNumber, alice_api: APIClient) -> None:
        response = alice_api.get(f"/api/phone-numbers/{number.id}")
        assert response.status_code == 200
        shown = response.json()["phoneNumber"]
        assert shown["twilioAccountSid"] == ACCOUNT_SID
        assert shown["refusedTwilioAccountSid"] == OTHER_SID

    @pytest.mark.parametrize(("sid", "kept"), [("AC" + "f" * 32, "AC" + "f" * 32), (None, "")])
    def test_the_owner_confirms_another(
        self, number: PhoneNumber, alice_api: APIClient, sid: str | None, kept: str
    ) -> None:
        response = alice_api.patch(f"/api/phone-numbers/{number.id}", {"twilioAccountSid": sid})
        assert response.status_code == 200
        shown = response.json()["phoneNumber"]
        assert (shown["twilioAccountSid"], shown["refusedTwilioAccountSid"]) == (sid, None)
        number.refresh_from_db()
        assert (number.twilio_account_sid, number.refused_at) == (kept, None)

    @pytest.mark.parametrize("sid", ["AC1", "", 7, "CA" + "0" * 32])
    def test_what_is_no_account_sid_is_refused(
        self, number: PhoneNumber, alice_api: APIClient, sid: Any
    ) -> None:
        response = alice_api.patch(f"/api/phone-numbers/{number.id}", {"twilioAccountSid": sid})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["twilioAccountSid"]

    def test_another_account_gets_404(self, number: PhoneNumber, bob_api: APIClient) -> None:
        path = f"/api/phone-numbers/{number.id}"
        assert bob_api.get(path).status_code == 404
        assert bob_api.patch(path, {"twilioAccountSid": OTHER_SID}).status_code == 404
        number.refresh_from_db()
        assert number.twilio_account_sid == ACCOUNT_SID


@pytest.mark.django_db
class TestAReleasedNumber:
    """Twilio may still send its calls here, and its next owner must not get them."""

    PROOF = {"twilioAccountSid": ACCOUNT_SID, "twilioAuthToken": AUTH_TOKEN}

    @pytest.fixture
    def twilio(self, settings: Settings) -> Iterator[Twilio]:
        with running_twilio() as twilio:
            twilio.status, twilio.body = 200, numbers_at_twilio(NUMBER)
            settings.TWILIO_API_URL = twilio.url
            yield twilio

    @pytest.fixture(autouse=True)
    def given_up(self, alice: Account, alice_api: APIClient) -> None:
        number = number_of(alice)
        PhoneNumber.objects.update(twilio_account_sid=OTHER_SID, verified_at=timezone.now())
        assert alice_api.delete(f"/api/phone-numbers/{number.id}").status_code == 200

    def test_it_is_held_back(self, bob_api: APIClient) -> None:
        response = register(bob_api)
        assert response.status_code == 409
        assert response.json()["code"] == "phone_number_resting"
        assert f"{timezone.now() + RESTS_FOR:%Y-%m-%d}" in response.json()["error"]
        assert not PhoneNumber.objects.exists()

    def test_it_is_free_thirty_days_later(self, bob_api: APIClient) -> None:
        ReleasedNumber.objects.update(released_at=timezone.now() - timedelta(days=30))
        assert register(bob_api).status_code == 201
        assert PhoneNumber.objects.get().twilio_account_sid == ""
        assert not ReleasedNumber.objects.exists()

    def test_it_is_forgotten_then(self) -> None:
        released_numbers_forget()
        assert ReleasedNumber.objects.exists()
        ReleasedNumber.objects.update(released_at=timezone.now() - timedelta(days=30))
        released_numbers_forget()
        assert not ReleasedNumber.objects.exists()

    def test_its_former_owner_can_register_it(self, alice_api: APIClient) -> None:
        assert register(alice_api).status_code == 201
        number = PhoneNumber.objects.get()
        assert number.twilio_account_sid == OTHER_SID
        assert number.verified_at is not None
        assert not ReleasedNumber.objects.exists()

    def test_proof_of_ownership_registers_it(
        self, twilio: Twilio, bob: Account, bob_api: APIClient
    ) -> None:
        response = register(bob_api, **self.PROOF)
        assert response.status_code == 201
        assert AUTH_TOKEN not in response.content.decode()
        (asked,) = twilio.received
        assert asked.path == (
            f"/2010-04-01/Accounts/{ACCOUNT_SID}/IncomingPhoneNumbers.json"
            "?PhoneNumber=%2B15551234567&PageSize=20"
        )
        number = PhoneNumber.objects.get()
        assert (number.account, number.twilio_account_sid) == (bob, ACCOUNT_SID)
        assert number.verified_at is None

    @pytest.mark.parametrize("others", [[], ["+15551234568"], [None]])
    def test_a_number_of_somebody_elses_proves_nothing(
        self, twilio: Twilio, bob_api: APIClient, others: list[Any]
    ) -> None:
        twilio.body = numbers_at_twilio(*others)
        response = register(bob_api, **self.PROOF)
        assert response.status_code == 400
        assert response.json()["code"] == "phone_number_not_proven"
        assert list(response.json()["fields"]) == ["twilioAccountSid"]
        assert not PhoneNumber.objects.exists()

    def test_credentials_that_twilio_refuses_prove_nothing(
        self, twilio: Twilio, bob_api: APIClient
    ) -> None:
        twilio.refuses(401, 20003, "Authenticate")
        response = register(bob_api, **self.PROOF)
        assert response.status_code == 400
        assert response.json()["code"] == "phone_number_not_proven"
        assert "does not accept this Account SID and auth token" in response.json()["error"]

    @pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"<html>"), (200, b"{}")])
    def test_twilio_cannot_be_asked(
        self, twilio: Twilio, bob_api: APIClient, status: int, body: bytes
    ) -> None:
        twilio.status, twilio.body = status, body
        response = register(bob_api, **self.PROOF)
        assert response.status_code == 502
        assert response.json()["code"] == "carrier_unavailable"

    @pytest.mark.parametrize("name", list(PROOF))
    def test_half_a_proof_is_none(self, bob_api: APIClient, name: str) -> None:
        response = register(bob_api, **{name: self.PROOF[name]})
        assert response.status_code == 400
        (missing,) = set(self.PROOF) - {name}
        assert list(response.json()["fields"]) == [missing]

    def test_one_that_never_had_a_verified_call_is_free_at_once(
        self, alice: Account, alice_api: APIClient, bob_api: APIClient
    ) -> None:
        number = number_of(alice, "+15551234568")
        assert alice_api.delete(f"/api/phone-numbers/{number.id}").status_code == 200
        assert register(bob_api, "+15551234568").status_code == 201

    def test_all_numbers_of_a_deleted_account_are_held_back(
        self, alice: Account, bob_api: APIClient
    ) -> None:
        number_of(alice, "+15551234569")
        PhoneNumber.objects.update(verified_at=timezone.now())
        phone_numbers_remove_all(account=alice)
        assert register(bob_api, "+15551234569").json()["code"] == "phone_number_resting"


def numbers_at_twilio(*numbers: Any) -> dict[str, Any]:
    return {
        "incoming_phone_numbers": [
            {"sid": "PN" + "0" * 32, "account_sid": ACCOUNT_SID, "phone_number": number}
            for number in numbers
        ],
        "next_page_uri": None,
        "page": 0,
        "page_size": 20,
    }


@pytest.mark.django_db
class TestRemove:
    def test_it_works(self, alice: Account, alice_api: APIClient, bob_api: APIClient) -> None:
        number = number_of(alice)
        response = alice_api.delete(f"/api/phone-numbers/{number.id}")
        assert response.status_code == 200
        assert response.json() == {"deleted": True}
        assert not PhoneNumber.objects.exists()
        assert register(bob_api).status_code == 201

    def test_it_is_gone_the_second_time(self, alice: Account, alice_api: APIClient) -> None:
        path = f"/api/phone-numbers/{number_of(alice).id}"
        assert [alice_api.delete(path).status_code for _ in range(2)] == [200, 404]

    def test_another_account_gets_404(self, alice: Account, bob_api: APIClient) -> None:
        number = number_of(alice)
        assert bob_api.delete(f"/api/phone-numbers/{number.id}").status_code == 404
        assert PhoneNumber.objects.exists()

    def test_only_active_accounts_may(self, carol: Account, carol_api: APIClient) -> None:
        number = number_of(carol)
        assert carol_api.delete(f"/api/phone-numbers/{number.id}").status_code == 402


def test_other_methods_are_refused_in_json(anonymous_api: APIClient, alice_api: APIClient) -> None:
    response = alice_api.put("/api/phone-numbers", {})
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
