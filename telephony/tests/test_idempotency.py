"""``Idempotency-Key`` on ``POST /api/outbound``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event, Semaphore
from typing import Any

import pytest
import requests
from django.db import connection, connections
from django.db.models import F
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.models import Account
from core.tests.web import web_process
from telephony.idempotency import KEPT, LEASE
from telephony.models import Call, IdempotencyKey, PhoneNumber
from telephony.outbound import outbound_call_taken
from telephony.services import call_end
from telephony.tasks import forget_idempotency_keys
from telephony.tests.test_outbound_api import BODY, FROM, all_of_the_database, call_of, number_of
from telephony.tests.twilio_stand_in import (
    AUTH_TOKEN,
    CALL_SID,
    Received,
    Twilio,
    call_resource,
    running_twilio,
)

KEY = "3c5f6d2e-order-1001"
OTHER_SID = "CA" + "1" * 32


@pytest.fixture(autouse=True)
def twilio(settings: Settings) -> Iterator[Twilio]:
    with running_twilio() as twilio:
        settings.TWILIO_API_URL = twilio.url
        yield twilio


@pytest.fixture(autouse=True)
def number(request: pytest.FixtureRequest, db: None) -> PhoneNumber:
    return number_of(request.getfixturevalue("alice"))


def place(api: APIClient, key: str | None = KEY, **changes: Any) -> Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.post("/api/outbound", BODY | changes, headers=headers)


def is_replayed(response: Response) -> bool:
    return response.headers.get("Idempotent-Replayed") == "true"


def grows_older(age: timedelta) -> None:
    IdempotencyKey.objects.update(created_at=F("created_at") - age)


@pytest.mark.django_db
class TestRepeat:
    def test_it_works(self, alice_api: APIClient, twilio: Twilio) -> None:
        first = place(alice_api)
        assert first.status_code == 201
        assert "Idempotent-Replayed" not in first.headers
        twilio.body = call_resource(sid=OTHER_SID)
        second = place(alice_api)
        assert (second.status_code, second.content) == (201, first.content)
        assert is_replayed(second)
        assert second["X-Request-Id"] != first["X-Request-Id"]
        assert Call.objects.count() == len(twilio.received) == 1

    def test_how_the_body_is_written_does_not_matter(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        metadata = {"a": 1, "b": [{"c": 2, "d": 3}]}
        place(alice_api, metadata=metadata)
        shuffled = BODY | {"metadata": {"b": [{"d": 3, "c": 2}], "a": 1}}
        body = json.dumps(dict(reversed(shuffled.items())), indent=4)
        again = alice_api.generic(
            "POST",
            "/api/outbound",
            body,
            content_type="application/json",
            headers={"Idempotency-Key": KEY},
        )
        assert (again.status_code, is_replayed(again)) == (201, True)

    @pytest.mark.parametrize(
        "changes",
        [
            {"to": "+15559876544"},
            {"twilioAuthToken": "another"},
            {"timeout": 30},
            {"metadata": None},
            {"notAField": 1},
        ],
    )
    def test_another_body_is_refused(
        self, alice_api: APIClient, twilio: Twilio, changes: dict[str, Any]
    ) -> None:
        first = place(alice_api)
        refusal = place(alice_api, **changes)
        assert refusal.status_code == 409
        assert refusal.json()["code"] == "idempotency_key_reused"
        assert not is_replayed(refusal)
        assert len(twilio.received) == 1
        assert place(alice_api).content == first.content

    def test_the_order_of_a_list_matters(self, alice_api: APIClient) -> None:
        place(alice_api, metadata=[1, 2])
        assert place(alice_api, metadata=[2, 1]).status_code == 409

    def test_another_key_is_another_call(self, alice_api: APIClient, twilio: Twilio) -> None:
        place(alice_api)
        twilio.body = call_resource(sid=OTHER_SID)
        other = place(alice_api, KEY.upper())
        assert (other.json()["callSid"], is_replayed(other)) == (OTHER_SID, False)

    def test_another_accounts_key_is_another_key(
        self, bob: Account, alice_api: APIClient, bob_api: APIClient, twilio: Twilio
    ) -> None:
        place(alice_api)
        number_of(bob, "+15551111111")
        twilio.body = call_resource(sid=OTHER_SID)
        bobs = place(bob_api, **{"from": "+15551111111"})
        assert (bobs.json()["callSid"], is_replayed(bobs)) == (OTHER_SID, False)
        assert Call.objects.of(bob).count() == 1

    def test_without_a_key_each_is_a_call(self, alice_api: APIClient, twilio: Twilio) -> None:
        place(alice_api, None)
        twilio.body = call_resource(sid=OTHER_SID)
        place(alice_api, None)
        assert Call.objects.count() == len(twilio.received) == 2

    def test_the_answer_is_the_first_one_whatever_became_of_the_call(
        self, alice_api: APIClient
    ) -> None:
        first = place(alice_api)
        call_end(call_id=first.json()["id"], status=Call.Status.BUSY, reason="busy")
        PhoneNumber.objects.all().delete()
        assert place(alice_api).content == first.content

    def test_a_call_does_not_count_against_its_own_repetition(
        self, alice_api: APIClient, settings: Settings
    ) -> None:
        settings.MAX_CONCURRENT_CALLS = 1
        assert [place(alice_api).status_code for _ in range(2)] == [201, 201]

    def test_a_rotated_secret_key_still_recognizes_the_body(
        self, alice_api: APIClient, settings: Settings
    ) -> None:
        place(alice_api)
        settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "new" * 20
        assert place(alice_api).status_code == 201
        assert place(alice_api, timeout=31).status_code == 409


@pytest.mark.django_db
class TestKey:
    @pytest.mark.parametrize("key", ["", " ", "two words", "tab\t", "umlaut-ä", "x" * 256])
    def test_a_malformed_one_is_refused(
        self, alice_api: APIClient, twilio: Twilio, key: str
    ) -> None:
        response = place(alice_api, key)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["Idempotency-Key"]
        assert not Call.objects.exists()
        assert not twilio.received

    @pytest.mark.parametrize("key", ["x" * 255, '"quoted"', "!~", "0"])
    def test_others_are_taken(self, alice_api: APIClient, key: str) -> None:
        assert place(alice_api, key).status_code == 201
        assert is_replayed(place(alice_api, key))

    def test_a_body_that_nests_too_deeply_is_refused(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        """In a field that nobody reads, too."""
        answer = alice_api.generic(
            "POST",
            "/api/outbound",
            json.dumps(BODY)[:-1] + ', "notAField": ' + "[" * 1000 + "]" * 1000 + "}",
            content_type="application/json",
            headers={"Idempotency-Key": KEY},
        )
        assert answer.status_code == 400
        assert answer.json()["error"] == "notAField: Use at most 64 levels of nesting."
        assert not twilio.received


@pytest.mark.django_db
class TestWhatIsKept:
    def test_what_was_refused_before_can_be_mended(
        self, alice: Account, alice_api: APIClient, settings: Settings, twilio: Twilio
    ) -> None:
        statuses = [place(alice_api, timeout=1).status_code]
        settings.MAX_CONCURRENT_CALLS = 0
        statuses.append(place(alice_api).status_code)
        settings.MAX_CONCURRENT_CALLS = 1
        PhoneNumber.objects.update(is_active=False)
        statuses.append(place(alice_api).status_code)
        PhoneNumber.objects.update(is_active=True)
        Account.objects.update(status=Account.Status.INACTIVE)
        statuses.append(place(alice_api).status_code)
        Account.objects.update(status=Account.Status.ACTIVE)
        statuses.append(place(alice_api, to="+442079460958").status_code)
        assert statuses == [400, 429, 403, 402, 400]
        assert not IdempotencyKey.objects.exists()
        response = place(alice_api)
        assert (response.status_code, is_replayed(response)) == (201, False)

    def test_a_refusal_by_twilio_is_kept(self, alice_api: APIClient, twilio: Twilio) -> None:
        twilio.refuses(400, 21219, "The number +15559876543 is unverified.")
        first = place(alice_api)
        assert first.json()["code"] == "carrier_rejected"
        twilio.status, twilio.body = 201, call_resource()
        again = place(alice_api)
        assert (again.status_code, again.content) == (400, first.content)
        assert is_replayed(again)
        assert len(twilio.received) == 1

    def test_a_call_that_may_have_been_placed_is_not_placed_again(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        twilio.status, twilio.body = 500, b"oops"
        first = place(alice_api)
        assert first.status_code == 502
        twilio.status, twilio.body = 201, call_resource()
        again = place(alice_api)
        assert (again.status_code, again.content) == (502, first.content)
        assert len(twilio.received) == 1

    def test_that_twilio_could_not_be_reached_is_kept(
        self, alice_api: APIClient, twilio: Twilio, settings: Settings
    ) -> None:
        settings.TWILIO_API_URL = "http://127.0.0.1:1"
        first = place(alice_api)
        settings.TWILIO_API_URL = twilio.url
        again = place(alice_api)
        assert (again.status_code, again.content) == (502, first.content)
        assert not twilio.received

    def test_no_secret_is(self, alice_api: APIClient, twilio: Twilio) -> None:
        place(alice_api)
        twilio.refuses(401, 20003, "Authenticate")
        place(alice_api, "another")
        assert AUTH_TOKEN not in all_of_the_database()
        record = IdempotencyKey.objects.get(key=KEY)
        canonical = json.dumps(BODY, sort_keys=True, separators=(",", ":"))
        assert record.fingerprint != hashlib.sha256(canonical.encode()).hexdigest()
        assert len(record.fingerprint) == 64

    def test_it_is_kept_for_a_day(self, alice_api: APIClient, twilio: Twilio) -> None:
        first = place(alice_api)
        grows_older(KEPT - timedelta(minutes=1))
        forget_idempotency_keys(timestamp=0)
        assert place(alice_api).content == first.content
        grows_older(timedelta(minutes=2))
        twilio.body = call_resource(sid=OTHER_SID)
        later = place(alice_api)
        assert (later.json()["callSid"], is_replayed(later)) == (OTHER_SID, False)
        assert place(alice_api).content == later.content
        assert IdempotencyKey.objects.count() == 1

    def test_a_day_later_it_is_deleted(
        self, alice_api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        place(alice_api)
        grows_older(KEPT)
        with django_assert_num_queries(1):
            forget_idempotency_keys(timestamp=0)
        assert not IdempotencyKey.objects.exists()
        assert Call.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestMeanwhile:
    """The state while Twilio is being asked; the stand-in responds from another thread."""

    def test_the_second_is_told_to_wait(self, alice_api: APIClient, twilio: Twilio) -> None:
        answers: list[Response] = []
        ours = connections["default"]

        def repeat(received: Received) -> None:
            try:
                assert ours.connection is None
                answers.extend([place(alice_api), place(alice_api, timeout=31)])
            finally:
                connection.close()

        twilio.acts = repeat
        assert place(alice_api).status_code == 201
        assert [answer.status_code for answer in answers] == [409, 409]
        assert [answer.json()["code"] for answer in answers] == [
            "idempotency_key_in_use",
            "idempotency_key_reused",
        ]
        assert answers[0]["Retry-After"] == "1"
        assert len(twilio.received) == 1
        assert is_replayed(place(alice_api))

    def test_who_is_slower_than_the_lease_gives_the_answer_that_was_given(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        answers: list[Response] = []

        def repeat(received: Received) -> None:
            try:
                grows_older(LEASE)
                answers.append(place(alice_api))
            finally:
                connection.close()

        twilio.acts = repeat
        first = place(alice_api)
        assert first.status_code == 502
        assert first.content == answers[0].content == place(alice_api).content
        assert Call.objects.get().call_sid == CALL_SID


@pytest.mark.django_db
class TestUnanswered:
    """The process died between the key's row and its response."""

    @pytest.fixture
    def call(self, alice: Account, alice_api: APIClient, twilio: Twilio) -> Call:
        """A call of which only one thing is known: Twilio may have been asked to place it."""
        place(alice_api)
        twilio.received.clear()
        call = call_of(alice)
        IdempotencyKey.objects.update(call=call, status=None, body="")
        return call

    @pytest.fixture(autouse=True)
    def never_placed_again(self, twilio: Twilio) -> Iterator[None]:
        yield
        assert not twilio.received

    def test_it_is_running_for_all_we_know(self, alice_api: APIClient, call: Call) -> None:
        assert place(alice_api).json()["code"] == "idempotency_key_in_use"

    def test_a_call_that_twilio_took_is_answered(self, alice_api: APIClient, call: Call) -> None:
        outbound_call_taken(call_id=call.id, call_sid=OTHER_SID)
        call_end(call_id=call.id, status=Call.Status.BUSY, reason="busy")
        grows_older(LEASE)
        answer = place(alice_api)
        assert (answer.status_code, is_replayed(answer)) == (201, True)
        assert answer.json() == {"id": call.id, "callSid": OTHER_SID, "status": "queued"}
        assert place(alice_api).content == answer.content

    def test_a_call_that_twilio_refused_is_answered(
        self, alice: Account, alice_api: APIClient, call: Call
    ) -> None:
        detail = {"code": 21219, "message": "The number is unverified."}
        call.events.create(account=alice, kind="carrier_rejected", detail=detail)
        grows_older(LEASE)
        answer = place(alice_api)
        assert answer.status_code == 400
        assert answer.json()["code"] == "carrier_rejected"
        assert "The number is unverified. (Twilio error 21219)" in answer.json()["error"]
        assert place(alice_api).content == answer.content

    def test_of_any_other_the_customer_is_told_where_to_look(
        self, alice_api: APIClient, call: Call
    ) -> None:
        grows_older(LEASE)
        answer = place(alice_api)
        assert answer.status_code == 502
        assert answer.json()["code"] == "carrier_unavailable"
        assert f"/api/calls/{call.id}" in answer.json()["error"]
        outbound_call_taken(call_id=call.id, call_sid=OTHER_SID)
        assert place(alice_api).content == answer.content
        assert alice_api.get(f"/api/calls/{call.id}").json()["call"]["callSid"] == OTHER_SID


@pytest.mark.django_db(transaction=True)
class TestProcesses:
    def test_a_hundred_at_once_are_one_call(self, alice_api: APIClient, twilio: Twilio) -> None:
        """With two processes. Twilio responds once a part of the hundred was told to wait."""
        told_to_wait, enough = Semaphore(0), Event()

        def answer_late(received: Received) -> None:
            for _ in range(20):
                assert told_to_wait.acquire(timeout=8)
            enough.set()

        twilio.acts = answer_late
        with web_process(workers=2, TWILIO_API_URL=twilio.url) as web:

            def ask(_: int) -> requests.Response:
                while True:
                    answer = post(web.url, alice_api)
                    if answer.status_code != 409:
                        return answer
                    assert answer.json()["code"] == "idempotency_key_in_use"
                    told_to_wait.release()
                    time.sleep(int(answer.headers["Retry-After"]))

            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(ask, range(100)))
        assert enough.is_set()
        assert {(answer.status_code, answer.content) for answer in answers} == {
            (201, answers[0].content)
        }
        replays = [answer.headers.get("Idempotent-Replayed") for answer in answers]
        assert (replays.count("true"), replays.count(None)) == (99, 1)
        assert len(twilio.received) == Call.objects.count() == 1

    def test_a_process_that_is_killed_leaves_an_answer(
        self, alice_api: APIClient, twilio: Twilio
    ) -> None:
        asked, killed = Event(), Event()

        def wait(received: Received) -> None:
            asked.set()
            killed.wait(10)

        twilio.acts = wait
        with web_process(workers=1, TWILIO_API_URL=twilio.url) as web, ThreadPoolExecutor(1) as one:
            request = one.submit(post, web.url, alice_api)
            assert asked.wait(30)
            web.kill()
            killed.set()
            assert isinstance(request.exception(10), requests.ConnectionError)
        assert place(alice_api).json()["code"] == "idempotency_key_in_use"
        grows_older(LEASE)
        answer = place(alice_api)
        call = Call.objects.get()
        assert (answer.status_code, is_replayed(answer)) == (502, True)
        assert f"/api/calls/{call.id}" in answer.json()["error"]
        assert place(alice_api).content == answer.content
        assert (call.status, call.caller_phone, len(twilio.received)) == ("queued", FROM, 1)


def post(url: str, api: APIClient) -> requests.Response:
    """Ask over HTTP, with the key of an API client."""
    return requests.post(
        f"{url}/api/outbound",
        json=BODY,
        headers={
            "Authorization": api._credentials["HTTP_AUTHORIZATION"],
            "Idempotency-Key": KEY,
        },
        timeout=60,
    )
