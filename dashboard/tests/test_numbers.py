"""The pages of phone numbers."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Account
from core.tests.histories import insert_copies
from dashboard.tests.pages import assert_well_made
from telephony.models import Call, PhoneNumber
from telephony.numbers import phone_numbers_remove_all
from telephony.tests.test_phone_numbers_api import numbers_at_twilio
from telephony.tests.twilio_stand_in import ACCOUNT_SID, AUTH_TOKEN, running_twilio

pytestmark = pytest.mark.django_db

LIST = "/dashboard/numbers"
NEW = "/dashboard/numbers/new"
NUMBER = "+15551234567"
FORM = {
    "phone_number": NUMBER,
    "on_call_start_url": "https://your-backend.com/start",
    "on_call_end_url": "https://your-backend.com/end",
    "on_error_url": "",
}
URLS = {name: value for name, value in FORM.items() if name != "phone_number"}


@pytest.fixture(autouse=True)
def production(settings: Any) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False


def number_of(account: Account, number: str = NUMBER) -> PhoneNumber:
    return PhoneNumber.objects.create(account=account, **FORM | {"phone_number": number})


def call_of(account: Account, minutes_ago: int = 0, **fields: Any) -> Call:
    values = {
        "direction": "inbound",
        "status": "completed",
        "caller_phone": "+19805551234",
        "called_number": NUMBER,
        "created_at": timezone.now() - timedelta(minutes=minutes_ago),
        "ended_at": timezone.now(),
    }
    return Call.objects.create(account=account, **values | fields)


class TestList:
    def test_it_works(self, alice: Account, alice_web: Client, settings: Any) -> None:
        settings.ENGINE_URL = "https://voice.example.org"
        number = number_of(alice)
        call_of(alice, ended_reason="agent_hangup")
        response = alice_web.get(LIST)
        assert response.status_code == 200
        text = response.content.decode()
        assert f'href="/dashboard/numbers/{number.id}"' in text
        assert "https://voice.example.org/voice" in text
        assert "Agent hung up" in text
        assert_well_made(text)

    def test_nothing_yet_says_what_to_do(self, alice_web: Client) -> None:
        text = alice_web.get(LIST).content.decode()
        assert "No numbers yet" in text
        assert f'href="{NEW}"' in text

    def test_the_last_call_is_the_last_in_either_direction(
        self, alice: Account, bob: Account, alice_web: Client
    ) -> None:
        number_of(alice)
        number_of(alice, "+15550000001")
        call_of(alice, 9)
        inbound = call_of(alice, 5)
        call_of(bob, 0)
        call_of(alice, 0, called_number="+15550000002")
        assert self.shown(alice_web) == [None, inbound]
        outbound = call_of(
            alice, 1, direction="outbound", caller_phone=NUMBER, called_number="+15550000001"
        )
        assert self.shown(alice_web) == [None, outbound]

    def shown(self, web: Client) -> list[Call | None]:
        return [known["call"] for known in web.get(LIST).context["numbers"]]

    def test_the_number_of_queries_is_fixed(
        self, alice: Account, alice_web: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for digit in range(5):
            number = number_of(alice, f"+1555000000{digit}")
            call_of(alice, called_number=number.phone_number)
        with django_assert_num_queries(4):  # the session, the account, the numbers, their calls
            alice_web.get(LIST)

    def test_the_history_is_not_read(self, alice: Account, bob: Account, alice_web: Client) -> None:
        """A number without a call costs no look through the calls of the others."""
        number_of(alice)
        number_of(alice, "+15550000001")
        one = call_of(alice)
        other = Call(account=alice, direction="inbound", status="completed", called_number=NUMBER)
        insert_copies(other, 2_000)
        assert one
        with CaptureQueriesContext(connection) as queries:
            alice_web.get(LIST)
        [sql] = [query["sql"] for query in queries if "last_inbound_id" in query["sql"]]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            plan = str(cursor.fetchone()[0])
        assert "call_inbound_by_number" in plan
        assert "call_failed_by_number" in plan
        assert "'Seq Scan', 'Parent Relationship': 'SubPlan'" not in plan

    def test_it_says_when_twilio_signed_a_call_and_what_failed_last(
        self, alice: Account, bob: Account, alice_web: Client
    ) -> None:
        number = number_of(alice)
        assert "No call from Twilio yet" in alice_web.get(LIST).content.decode()
        PhoneNumber.objects.update(signed_at=timezone.now())
        call_of(alice, 9, error_code="model_session")
        failed = call_of(
            alice,
            5,
            direction="outbound",
            caller_phone=NUMBER,
            called_number="+15550000001",
            error_code="carrier_rejected",
        )
        call_of(alice, 1, ended_reason="agent_hangup")
        call_of(alice, 0, called_number="+15550000001", error_code="timeout")
        call_of(bob, 0, error_code="timeout")
        for path in (LIST, f"{LIST}/{number.id}"):
            text = alice_web.get(path).content.decode()
            assert "carrier_rejected" in text
            assert f"/dashboard/calls/{failed.id}" in text
            assert "model_session" not in text
            assert "timeout" not in text
            assert "Call from Twilio yet" not in text
            assert_well_made(text)

    @pytest.mark.parametrize(
        ("searched", "found"),
        [
            ("front", True),
            ("FRONT DESK", True),
            ("(555) 123", True),
            ("4567", True),
            ("back", False),
            ("999", False),
            ("%", False),
            ("_", False),
        ],
    )
    def test_it_is_searched_by_name_and_number(
        self, alice: Account, alice_web: Client, searched: str, found: bool
    ) -> None:
        number_of(alice)
        PhoneNumber.objects.update(name="Front desk")
        response = alice_web.get(LIST, {"q": searched})
        assert bool(response.context["numbers"]) is found
        assert ("No numbers match" in response.content.decode()) is not found
        assert_well_made(response.content.decode())

    def test_pages_follow_each_other(self, alice: Account, bob: Account, alice_web: Client) -> None:
        numbers = [f"+1555000{count:04}" for count in range(101)]
        for number in numbers:
            number_of(alice, number)
        number_of(bob)
        found: list[str] = []
        path = LIST + "?q=555"
        while path:
            context = alice_web.get(path).context
            found += [str(row["number"]) for row in context["numbers"]]
            path = context["older"]
        assert found == numbers[::-1]
        newest = alice_web.get(LIST).context
        second = alice_web.get(newest["older"]).context
        first = alice_web.get(second["newer"]).context
        assert [len(each["numbers"]) for each in (first, second)] == [50, 50]
        assert (first["newer"], second["newer"] != "") == ("", True)

    @pytest.mark.parametrize(
        ("who", "sentence"), [("carol", "Complete the checkout"), ("dave", "suspended")]
    )
    def test_it_is_readable_without_paying(self, request: Any, who: str, sentence: str) -> None:
        number = number_of(request.getfixturevalue(who))
        web = request.getfixturevalue(f"{who}_web")
        for path in (LIST, f"{LIST}/{number.id}", NEW):
            text = web.get(path).content.decode()
            assert sentence in text
            assert "Remove" not in text
        assert NUMBER in web.get(LIST).content.decode()


class TestRegister:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        assert_well_made(alice_web.get(NEW).content.decode())
        response = alice_web.post(NEW, FORM)
        assert (response.status_code, response["Location"]) == (302, LIST)
        number = PhoneNumber.objects.of(alice).get()
        assert {name: getattr(number, name) for name in FORM} == FORM
        assert "Registered " in alice_web.get(LIST).content.decode()

    def test_the_number_may_be_typed_as_people_write_it(
        self, alice: Account, alice_web: Client
    ) -> None:
        assert alice_web.post(NEW, FORM | {"phone_number": "(555) 123-4567"}).status_code == 302
        assert PhoneNumber.objects.of(alice).get().phone_number == NUMBER

    def test_one_that_is_ones_own_gets_the_new_urls(
        self, alice: Account, alice_web: Client
    ) -> None:
        number_of(alice)
        alice_web.post(NEW, FORM | {"on_error_url": "https://your-backend.com/error"})
        assert PhoneNumber.objects.get().on_error_url == "https://your-backend.com/error"
        assert "Updated the URLs of " in alice_web.get(LIST).content.decode()

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("phone_number", "555", "Use a US number in E.164"),
            ("phone_number", "+14165550123", "Use a US number. This one is in CA."),
            ("phone_number", "+19002345678", "This one is a premium-rate number."),
            ("phone_number", "", "This field is required."),
            ("on_call_start_url", "http://your-backend.com", "Use a public https:// URL."),
            ("on_call_end_url", "https://10.0.0.1/", "cannot be reached from the internet"),
            ("on_error_url", "https://a:b@your-backend.com", "Leave the username and password out"),
        ],
    )
    def test_what_is_wrong_is_said_at_the_field(
        self, alice_web: Client, field: str, value: str, message: str
    ) -> None:
        response = alice_web.post(NEW, FORM | {field: value})
        assert response.status_code == 400
        assert message in response.context["form"].errors[field][0]
        assert not PhoneNumber.objects.exists()

    def test_one_that_another_account_has(self, bob: Account, alice_web: Client) -> None:
        number_of(bob)
        response = alice_web.post(NEW, FORM)
        assert response.status_code == 400
        assert "Another account has registered" in response.content.decode()

    @pytest.mark.parametrize(("who", "status"), [("carol_web", 402), ("dave_web", 403)])
    def test_only_active_accounts_may(self, request: Any, who: str, status: int) -> None:
        assert request.getfixturevalue(who).post(NEW, FORM).status_code == status
        assert not PhoneNumber.objects.exists()


class TestChange:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        number = number_of(alice)
        path = f"{LIST}/{number.id}"
        text = alice_web.get(path).content.decode()
        assert FORM["on_call_start_url"] in text
        assert_well_made(text)
        changes = URLS | {"on_error_url": "https://your-backend.com/error", "name": "Front desk"}
        assert alice_web.post(path, changes)["Location"] == LIST
        assert "Front desk" in alice_web.get(LIST).content.decode()
        number.refresh_from_db()
        assert (number.is_active, number.on_error_url) == (False, changes["on_error_url"])
        alice_web.post(path, URLS | {"is_active": "on"})
        number.refresh_from_db()
        assert (number.is_active, number.on_error_url) == (True, "")

    def test_what_is_wrong_is_said_at_the_field(self, alice: Account, alice_web: Client) -> None:
        number = number_of(alice)
        response = alice_web.post(f"{LIST}/{number.id}", URLS | {"on_call_end_url": "x"})
        assert response.status_code == 400
        assert "on_call_end_url" in response.context["form"].errors

    def test_somebody_elses_is_not_found(self, alice: Account, bob_web: Client) -> None:
        number = number_of(alice)
        for path in (f"{LIST}/{number.id}", f"{LIST}/nothing"):
            assert bob_web.get(path).status_code == 404
            assert bob_web.post(path, URLS).status_code == 404
        number.refresh_from_db()
        assert number.is_active


class TestRemove:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        number = number_of(alice)
        assert alice_web.post(f"{LIST}/{number.id}/remove")["Location"] == LIST
        assert not PhoneNumber.objects.exists()

    def test_a_link_does_not(self, alice: Account, alice_web: Client) -> None:
        number = number_of(alice)
        assert alice_web.get(f"{LIST}/{number.id}/remove").status_code == 405

    def test_somebody_elses_is_not_found(self, alice: Account, bob_web: Client) -> None:
        number = number_of(alice)
        assert bob_web.post(f"{LIST}/{number.id}/remove").status_code == 404
        assert PhoneNumber.objects.exists()

    def test_only_active_accounts_may(self, carol: Account, carol_web: Client) -> None:
        number = number_of(carol)
        assert carol_web.post(f"{LIST}/{number.id}/remove").status_code == 402
        assert PhoneNumber.objects.exists()


@pytest.mark.parametrize("path", [LIST, NEW, f"{LIST}/cmnp1t5b900027h3zk3d8s6ye"])
def test_strangers_log_in_first(path: str) -> None:
    assert Client().get(path)["Location"] == f"/login?next={path}"


class TestItsTwilioAccount:
    SID = "AC" + "1" * 32
    OTHER = "AC" + "2" * 32

    @pytest.fixture
    def number(self, alice: Account) -> PhoneNumber:
        number = number_of(alice)
        number.twilio_account_sid, number.verified_at = self.SID, timezone.now()
        number.save()
        return number

    def test_it_is_shown(self, number: PhoneNumber, alice_web: Client) -> None:
        text = alice_web.get(f"{LIST}/{number.id}").content.decode()
        assert self.SID in text
        assert "We rejected" not in text
        assert_well_made(text)

    def test_one_that_was_refused_can_be_confirmed(
        self, number: PhoneNumber, alice_web: Client
    ) -> None:
        PhoneNumber.objects.update(refused_account_sid=self.OTHER, refused_at=timezone.now())
        text = alice_web.get(f"{LIST}/{number.id}").content.decode()
        assert "We rejected a call" in text
        (hidden, field) = re.findall(r'<input[^>]* name="twilio-twilio_account_sid"[^>]*>', text)
        assert 'type="hidden"' in hidden
        assert f'value="{self.OTHER}"' in hidden
        assert f'value="{self.SID}"' in field
        assert_well_made(text)
        response = self.confirm(alice_web, number, self.OTHER)
        assert response.status_code == 302
        assert f"only accepts calls from {self.OTHER}" in alice_web.get(LIST).content.decode()
        number.refresh_from_db()
        assert (number.twilio_account_sid, number.refused_account_sid) == (self.OTHER, "")

    def test_without_one_the_next_call_sets_it(
        self, number: PhoneNumber, alice_web: Client
    ) -> None:
        assert self.confirm(alice_web, number, "").status_code == 302
        text = alice_web.get(f"{LIST}/{number.id}").content.decode()
        assert f"{number} gets its account from the next call." in text
        assert "Not set yet" in text
        assert self.SID not in text

    def test_whoever_removes_it_reads_that_it_rests(
        self, number: PhoneNumber, alice_web: Client
    ) -> None:
        rests = "For 30 days, only you can register it again"
        assert rests in alice_web.get(f"{LIST}/{number.id}").content.decode()
        PhoneNumber.objects.update(verified_at=None)
        assert rests not in alice_web.get(f"{LIST}/{number.id}").content.decode()

    def test_what_is_no_account_sid_is_refused(
        self, number: PhoneNumber, alice_web: Client
    ) -> None:
        response = self.confirm(alice_web, number, "AC1")
        assert response.status_code == 400
        assert "AC and 32 hex digits" in response.content.decode()
        number.refresh_from_db()
        assert number.twilio_account_sid == self.SID

    def test_another_accounts_is_not_found(self, number: PhoneNumber, bob_web: Client) -> None:
        assert self.confirm(bob_web, number, self.OTHER).status_code == 404
        number.refresh_from_db()
        assert number.twilio_account_sid == self.SID

    def confirm(self, web: Client, number: PhoneNumber, sid: str) -> Any:
        url = f"{LIST}/{number.id}/twilio-account"
        return web.post(url, {"twilio-twilio_account_sid": sid})


class TestANumberThatWasGivenUp:
    PROOF = {"twilio_account_sid": ACCOUNT_SID, "twilio_auth_token": AUTH_TOKEN}
    BESIDE_EACH_OTHER = ("phone_number", *PROOF, "on_call_start_url")

    @pytest.fixture(autouse=True)
    def given_up(self, alice: Account) -> None:
        number_of(alice)
        PhoneNumber.objects.update(verified_at=timezone.now())
        phone_numbers_remove_all(account=alice)

    def test_its_next_owner_is_asked_for_proof(self, bob_web: Client) -> None:
        response = bob_web.post(NEW, FORM)
        assert response.status_code == 400
        text = response.content.decode()
        assert "belonged to another account" in text
        places = [text.index(f'name="{name}"') for name in self.BESIDE_EACH_OTHER]
        assert places == sorted(places)
        assert f'value="{NUMBER}"' in text
        assert "This field is required" not in text
        assert_well_made(text)

    def test_it_is_registered_with_it(self, bob: Account, bob_web: Client, settings: Any) -> None:
        with running_twilio() as twilio:
            settings.TWILIO_API_URL = twilio.url
            twilio.status, twilio.body = 200, numbers_at_twilio(NUMBER)
            response = bob_web.post(NEW, FORM | self.PROOF)
        assert response.status_code == 302
        assert PhoneNumber.objects.get().account == bob

    def test_what_proves_nothing_is_said_at_the_field(self, bob_web: Client, settings: Any) -> None:
        with running_twilio() as twilio:
            settings.TWILIO_API_URL = twilio.url
            twilio.status, twilio.body = 200, numbers_at_twilio()
            response = bob_web.post(NEW, FORM | self.PROOF)
        assert response.status_code == 400
        text = response.content.decode()
        assert "does not belong to this Twilio account" in text
        assert AUTH_TOKEN not in text
