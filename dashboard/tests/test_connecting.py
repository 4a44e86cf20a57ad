"""The page that connects a Twilio account, and a number's check at Twilio."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from dashboard import connecting
from dashboard.tests.pages import assert_well_made
from telephony.models import PhoneNumber
from telephony.tests.numbers_at_twilio import (
    OTHERS_URL,
    VOICE_URL,
    NumbersAtTwilio,
    serving_numbers,
)
from telephony.tests.twilio_stand_in import ACCOUNT_SID, AUTH_TOKEN
from telephony.twilio_rest import TIMEOUT_SECONDS

pytestmark = pytest.mark.django_db

PATH = "/dashboard/numbers/connect"
LIST = "/dashboard/numbers"
NUMBER, SECOND = "+12125550143", "+12125550144"
ACCOUNT = {"twilio_account_sid": ACCOUNT_SID, "twilio_auth_token": AUTH_TOKEN}
CHECK = {f"check-{name}": value for name, value in ACCOUNT.items()}
URLS = {
    "on_call_start_url": "https://your-backend.com/start",
    "on_call_end_url": "https://your-backend.com/end",
}
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def twilio(settings: Settings) -> Iterator[NumbersAtTwilio]:
    settings.ENGINE_URL = VOICE_URL.removesuffix("/voice")
    with serving_numbers() as numbers:
        settings.TWILIO_API_URL = numbers.url
        numbers.give(NUMBER, friendly_name="Front desk")
        numbers.give(SECOND)
        yield numbers


def number_of(account: Account, phone_number: str = NUMBER, **fields: Any) -> PhoneNumber:
    return PhoneNumber.objects.create(account=account, phone_number=phone_number, **URLS | fields)


def listed(web: Client, **changes: Any) -> Any:
    return web.post(PATH, ACCOUNT | {"step": "list"} | changes, headers=HTMX)


def connected(web: Client, *numbers: str, **changes: Any) -> Any:
    body = ACCOUNT | URLS | {"step": "connect", "number": list(numbers)}
    return web.post(PATH, body | changes, headers=HTMX)


class TestConnect:
    def test_it_works(self, alice: Account, alice_web: Client, twilio: NumbersAtTwilio) -> None:
        page = alice_web.get(PATH).content.decode()
        assert "Show numbers" in page
        assert_well_made(page)
        part = listed(alice_web)
        assert part.status_code == 200
        text = part.content.decode()
        assert "<html" not in text
        assert f'value="{NUMBER}"' in text
        assert "Front desk" in text
        assert OTHERS_URL in text
        assert AUTH_TOKEN not in text
        response = connected(alice_web, NUMBER, SECOND)
        assert response["HX-Redirect"] == LIST
        numbers = PhoneNumber.objects.of(alice)
        assert {each.phone_number for each in numbers} == {NUMBER, SECOND}
        assert {each.twilio_account_sid for each in numbers} == {ACCOUNT_SID}
        at_twilio = [twilio.phone.numbers.find(number) for number in (NUMBER, SECOND)]
        assert [each and each.voice_url for each in at_twilio] == [VOICE_URL, VOICE_URL]
        assert f"Connected {NUMBER}, {SECOND}." in alice_web.get(LIST).content.decode()

    def test_it_works_without_scripts(self, alice: Account, alice_web: Client) -> None:
        text = alice_web.post(PATH, ACCOUNT | {"step": "list"}).content.decode()
        assert f'value="{NUMBER}"' in text
        assert f'value="{ACCOUNT_SID}"' in text
        assert AUTH_TOKEN not in text
        assert_well_made(text)
        response = alice_web.post(PATH, ACCOUNT | URLS | {"step": "connect", "number": NUMBER})
        assert response["Location"] == LIST
        assert PhoneNumber.objects.of(alice).get().phone_number == NUMBER

    def test_one_that_fails_keeps_no_other_back(
        self, alice: Account, alice_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        twilio.give(SECOND, "AC" + "f" * 32)
        text = connected(alice_web, SECOND, "garbage", NUMBER).content.decode()
        assert f"<b>{NUMBER}</b> is connected." in text
        assert f"<b>{SECOND}</b>: {SECOND} does not belong to this Twilio account." in text
        assert "<b>garbage</b>: Use a US number in E.164" in text
        assert PhoneNumber.objects.of(alice).get().phone_number == NUMBER

    def test_what_is_missing_is_said(self, alice_web: Client) -> None:
        text = connected(alice_web, NUMBER, on_call_end_url="").content.decode()
        assert "Enter the URL that gets the transcript" in text
        assert f'value="{URLS["on_call_start_url"]}"' in text
        assert not PhoneNumber.objects.exists()

    @pytest.mark.parametrize("count", [0, 21])
    def test_one_to_twenty_are_chosen(self, alice_web: Client, count: int) -> None:
        numbers = [f"+1212555{digits:04}" for digits in range(100, 100 + count)]
        assert "Choose 1 to 20 numbers." in connected(alice_web, *numbers).content.decode()
        assert not PhoneNumber.objects.exists()

    def test_one_that_is_too_long_is_not_repeated(self, alice_web: Client) -> None:
        text = connected(alice_web, NUMBER, "x" * 17).content.decode()
        assert "Choose numbers from the list." in text
        assert "x" * 17 not in text
        assert not PhoneNumber.objects.exists()

    def test_where_twilio_is_slow_the_rest_is_left_for_later(
        self, alice_web: Client, monkeypatch: pytest.MonkeyPatch, twilio: NumbersAtTwilio
    ) -> None:
        """The list of numbers too: a request holds a thread."""
        monkeypatch.setattr(connecting, "BEGUN_WITHIN_S", 0.0)
        text = connected(alice_web, NUMBER).content.decode()
        assert "Not connected: Twilio took too long" in text
        assert "Twilio took too long to list the numbers again." in text
        assert not twilio.requests
        assert not PhoneNumber.objects.exists()

    def test_a_request_holds_a_thread_for_half_a_minute_at_most(self) -> None:
        """The last number is begun just in time, and takes two requests; then none is listed."""
        assert connecting.BEGUN_WITHIN_S + 2 * TIMEOUT_SECONDS <= 30

    def test_one_of_another_account_is_moved_with_consent(
        self, alice: Account, bob: Account, alice_web: Client
    ) -> None:
        number_of(bob)
        assert 'name="move_from_other_account"' in listed(alice_web).content.decode()
        assert "Another account has registered" in connected(alice_web, NUMBER).content.decode()
        assert PhoneNumber.objects.get().account == bob
        response = connected(alice_web, NUMBER, move_from_other_account="on")
        assert response["HX-Redirect"] == LIST
        assert PhoneNumber.objects.get().account == alice

    def test_one_with_a_trunk_is_taken_from_it_with_consent(
        self, alice_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        assert 'name="replace_routing"' not in listed(alice_web).content.decode()
        twilio.give(NUMBER, trunk_sid="TK" + "1" * 32)
        assert 'name="replace_routing"' in listed(alice_web).content.decode()
        assert "SIP trunk" in connected(alice_web, NUMBER).content.decode()
        assert "HX-Redirect" in connected(alice_web, NUMBER, replace_routing="on")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"twilio_auth_token": "wrong"}, "does not accept this Account SID and auth token"),
            ({"twilio_account_sid": "AC1"}, "AC and 32 hex digits"),
            ({"twilio_auth_token": "two words"}, "as Twilio shows it"),
            ({"twilio_account_sid": ""}, "This field is required"),
        ],
    )
    def test_what_is_wrong_with_the_account_is_said(
        self, alice_web: Client, change: dict[str, str], message: str
    ) -> None:
        assert message in listed(alice_web, **change).content.decode()
        response = alice_web.post(PATH, ACCOUNT | {"step": "list"} | change)
        assert response.status_code == 400
        assert message in response.content.decode()

    def test_numbers_are_found_by_digits_and_in_pages(
        self, alice_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        for digits in range(60):
            twilio.give(f"+1212556{digits:04}")
        found = listed(alice_web, find="(212) 556").context["offer"]
        assert len(found.numbers) == 50
        rest = listed(alice_web, find="(212) 556", after=found.after).context["offer"]
        assert (len(rest.numbers), rest.after) == (10, "")

    def test_the_credentials_are_nowhere(
        self, alice_web: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with CaptureQueriesContext(connection) as queries:
            responses = [
                listed(alice_web),
                connected(alice_web, NUMBER),
                connected(alice_web, SECOND, on_call_end_url="x"),
                alice_web.post(PATH, ACCOUNT | {"step": "connect"}),
            ]
        said = [response.content.decode() for response in responses]
        for text in (*said, caplog.text, *(query["sql"] for query in queries)):
            assert AUTH_TOKEN not in text

    @pytest.mark.parametrize(("who", "status"), [("carol_web", 402), ("dave_web", 403)])
    def test_only_active_accounts_may(
        self, request: Any, twilio: NumbersAtTwilio, who: str, status: int
    ) -> None:
        web = request.getfixturevalue(who)
        assert "disabled" in web.get(PATH).content.decode()
        assert listed(web).status_code == status
        assert not twilio.requests


class TestCheck:
    @pytest.fixture
    def number(self, alice: Account) -> PhoneNumber:
        return number_of(alice, twilio_account_sid=ACCOUNT_SID, verified_at=timezone.now())

    def check(self, web: Client, number: PhoneNumber, step: str = "check", **changes: Any) -> Any:
        path = f"{LIST}/{number.id}/twilio"
        return web.post(path, CHECK | {"step": step} | changes, headers=HTMX)

    def test_it_works(
        self, number: PhoneNumber, alice_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        assert_well_made(alice_web.get(f"{LIST}/{number.id}").content.decode())
        elsewhere = self.check(alice_web, number).content.decode()
        assert f'Twilio sends them to <code class="address">{OTHERS_URL}</code>' in elsewhere
        assert "Point it here" in elsewhere
        here = self.check(alice_web, number, "point").content.decode()
        assert f"Twilio sends the calls of {NUMBER} here." in here
        assert "Point it here" not in here
        at_twilio = twilio.phone.numbers.find(NUMBER)
        assert at_twilio
        assert at_twilio.voice_url == VOICE_URL
        number.refresh_from_db()
        assert number.on_call_start_url == URLS["on_call_start_url"]

    def test_it_works_without_scripts(self, number: PhoneNumber, alice_web: Client) -> None:
        response = alice_web.post(f"{LIST}/{number.id}/twilio", CHECK | {"step": "check"})
        text = response.content.decode()
        assert OTHERS_URL in text
        assert AUTH_TOKEN not in text
        assert_well_made(text)

    def test_an_application_is_named_and_removed_with_consent(
        self, number: PhoneNumber, alice_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        application = "AP" + "1" * 32
        twilio.give(NUMBER, voice_application_sid=application, voice_url=VOICE_URL)
        assert application in self.check(alice_web, number).content.decode()
        assert "let us replace it" in self.check(alice_web, number, "point").content.decode()
        text = self.check(alice_web, number, "point", replace_routing="on").content.decode()
        assert "here." in text

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"check-twilio_auth_token": "wrong"}, "does not accept"),
            ({"check-twilio_auth_token": ""}, "This field is required"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, number: PhoneNumber, alice_web: Client, change: dict[str, str], message: str
    ) -> None:
        assert message in self.check(alice_web, number, **change).content.decode()

    def test_a_number_that_the_twilio_account_does_not_have(
        self, number: PhoneNumber, alice_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        twilio.give(NUMBER, "AC" + "f" * 32)
        text = self.check(alice_web, number).content.decode()
        assert "does not belong to this Twilio account" in text

    def test_somebody_elses_is_not_found(
        self, number: PhoneNumber, bob_web: Client, twilio: NumbersAtTwilio
    ) -> None:
        assert self.check(bob_web, number).status_code == 404
        assert self.check(bob_web, number, "point").status_code == 404
        assert not twilio.requests


@pytest.mark.parametrize("path", [PATH, f"{LIST}/cmnp1t5b900027h3zk3d8s6ye/twilio"])
def test_strangers_log_in_first(path: str) -> None:
    assert Client().post(path)["Location"].startswith("/login?")
