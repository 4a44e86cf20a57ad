"""The page of callbacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account
from dashboard import callbacks
from dashboard.call_words import DELIVERY_LABELS
from dashboard.tests.mails import jobs
from dashboard.tests.pages import Page, assert_well_made
from dashboard.tests.test_calls import call_of
from telephony.callbacks import early, outbox
from telephony.models import CallbackDelivery, CallbackEndpoint, PhoneNumber

pytestmark = pytest.mark.django_db

PATH = "/dashboard/callbacks"
NOW = datetime(2026, 4, 5, 9, 30, tzinfo=UTC)
BACKEND, OTHER = "https://your-backend.com", "https://other.example:8443"
HTMX = {"HX-Request": "true"}


def delivery_of(account: Account, **fields: Any) -> CallbackDelivery:
    """An onCallEnd that waits for its second attempt."""
    values = {
        "kind": CallbackDelivery.Kind.CALL_END,
        "url": f"{BACKEND}/calls/end?token=secret",
        "sealed_body": b"what was said",
        "attempts": 1,
        "last_result": "503",
        "created_at": NOW,
        "due_at": timezone.now() + timedelta(hours=1),
    }
    call = call_of(account)
    return CallbackDelivery.objects.create(account=account, call=call, **values | fields)


def endpoint_of(account: Account, **fields: Any) -> CallbackEndpoint:
    values = {
        "origin": f"{BACKEND}:443",
        "failed_attempts": 7,
        "failing_since": NOW,
        "last_result": "503",
        "last_url": f"{BACKEND}/calls/end",
    }
    return CallbackEndpoint.objects.create(account=account, **values | fields)


def get(web: Client, **query: Any) -> Any:
    response = web.get(PATH, query)
    assert response.status_code == 200, response.content
    return response


def shown(web: Client, **query: Any) -> list[str]:
    return [row["delivery"].id for row in get(web, **query).context["rows"]]


class TestList:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(alice)
        response = get(alice_web)
        text = response.content.decode()
        assert_well_made(text)
        (row,) = response.context["rows"]
        assert (row["label"], row["origin"], row["result"]) == ("Failing", BACKEND, "503")
        assert f'href="/dashboard/calls/{delivery.call_id}#callbacks"' in text
        assert f'action="{PATH}/{delivery.id}/send"' in text
        assert "secret" not in text
        assert "we erase its content" in text

    @pytest.mark.parametrize(
        ("fields", "label", "state"),
        [
            ({"attempts": 0, "last_result": ""}, "Waiting", "waiting"),
            ({}, "Failing", "failing"),
            ({"state": "given-up", "sealed_body": None}, "Given up", "given-up"),
            ({"state": "delivered", "sealed_body": None}, "Delivered", "delivered"),
        ],
    )
    def test_states(
        self, alice: Account, alice_web: Client, fields: dict[str, Any], label: str, state: str
    ) -> None:
        delivery = delivery_of(alice, **fields)
        (row,) = get(alice_web).context["rows"]
        assert row["label"] == label
        found = {each: shown(alice_web, state=each) for each in DELIVERY_LABELS}
        assert found == {each: [delivery.id] if each == state else [] for each in DELIVERY_LABELS}

    def test_one_that_is_held_back(self, alice: Account, alice_web: Client) -> None:
        probe_at = timezone.now() + timedelta(minutes=3)
        endpoint = endpoint_of(alice, failures=5, probe_at=probe_at)
        delivery = delivery_of(alice, attempts=0, held_by=endpoint, due_at=NOW)
        (row,) = get(alice_web).context["rows"]
        assert (row["label"], row["delivery"].next_attempt_at) == ("On hold", probe_at)
        assert shown(alice_web, state="failing") == [delivery.id]
        assert shown(alice_web, state="waiting") == []

    def test_what_has_ended_has_no_button(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(alice, state="given-up", sealed_body=None)
        assert f"{delivery.id}/send" not in get(alice_web).content.decode()

    def test_filters(self, alice: Account, alice_web: Client) -> None:
        end = delivery_of(alice)
        error = delivery_of(alice, kind="onError", url=f"{OTHER}/error", created_at=NOW)
        assert shown(alice_web, kind="onError") == [error.id]
        for text in (BACKEND, f"{BACKEND}:443/calls/end", "your-backend.com"):
            assert shown(alice_web, endpoint=text) == [end.id]
        assert shown(alice_web, endpoint=OTHER, state="failing", kind="onError") == [error.id]
        assert shown(alice_web, endpoint="https://nobody.example") == []

    def test_a_filter_without_a_result(self, alice: Account, alice_web: Client) -> None:
        delivery_of(alice)
        text = get(alice_web, state="given-up").content.decode()
        assert "No callbacks match these filters" in text
        assert PATH in Page(text).links

    @pytest.mark.parametrize(
        "query", [{"state": "lost"}, {"endpoint": "https://"}, {"endpoint": "http://a:port"}]
    )
    def test_a_filter_that_is_wrong(self, alice_web: Client, query: dict[str, str]) -> None:
        response = alice_web.get(PATH, query)
        assert response.status_code == 400
        assert "Clear filters" in response.content.decode()

    def test_none(self, alice_web: Client) -> None:
        assert "No callbacks yet" in get(alice_web).content.decode()

    def test_pages(
        self, alice: Account, alice_web: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "PAGE_SIZE", 2)
        ids = [
            delivery_of(alice, created_at=NOW - timedelta(minutes=number)).id for number in range(5)
        ]
        seen = []
        path = f"{PATH}?state=failing"
        while path:
            response = alice_web.get(path)
            seen += [row["delivery"].id for row in response.context["rows"]]
            path = response.context["older"]
        assert seen == ids
        assert alice_web.get(response.context["newer"]).context["rows"][0]["delivery"].id == ids[2]

    def test_htmx_gets_the_list_alone(self, alice: Account, alice_web: Client) -> None:
        delivery_of(alice)
        response = alice_web.get(PATH, {"state": "failing", "kind": ""}, headers=HTMX)
        text = response.content.decode()
        assert "<html" not in text
        assert "Failing" in text
        assert response["HX-Push-Url"] == f"{PATH}?state=failing"

    def test_another_account_sees_nothing(
        self, alice: Account, bob: Account, bob_web: Client
    ) -> None:
        delivery_of(alice)
        endpoint_of(alice)
        response = get(bob_web)
        assert response.context["rows"] == response.context["failing"] == []
        assert BACKEND not in response.content.decode()

    def test_strangers_sign_in(self) -> None:
        for response in (Client().get(PATH), Client().post(f"{PATH}/send")):
            assert response["Location"].startswith("/login?next=")

    def test_more_callbacks_and_endpoints_cost_no_more_queries(
        self, alice: Account, alice_web: Client
    ) -> None:
        counts = []
        for number in range(2):
            endpoint = endpoint_of(alice, origin=f"https://{number}.example:443", failures=3)
            delivery_of(alice, url=f"https://{number}.example/a", held_by=endpoint)
            delivery_of(alice, url=f"https://{number}.example/b")
            with CaptureQueriesContext(connection) as captured:
                get(alice_web)
            counts.append(len(captured))
        assert counts[0] == counts[1] <= 7


class TestFailingEndpoints:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        endpoint_of(alice)
        first = timezone.now() + timedelta(minutes=5)
        delivery_of(alice, due_at=first)
        delivery_of(alice)
        delivery_of(alice, state="delivered")
        delivery_of(alice, url=f"{OTHER}/end")
        response = get(alice_web)
        (line,) = response.context["failing"]
        assert (line.origin, line.since, line.attempts, line.result) == (BACKEND, NOW, 7, "503")
        assert (line.waiting, line.next_at) == ("2", first)
        assert "Failing endpoints" in response.content.decode()

    def test_the_next_attempt_of_one_that_does_not_respond(
        self, alice: Account, alice_web: Client
    ) -> None:
        probe_at = timezone.now() + timedelta(minutes=3)
        endpoint = endpoint_of(alice, failures=5, probe_at=probe_at)
        delivery_of(alice, due_at=NOW, held_by=endpoint)
        (line,) = get(alice_web).context["failing"]
        assert line.next_at == probe_at

    def test_nothing_waits(self, alice: Account, alice_web: Client) -> None:
        endpoint_of(alice)
        response = get(alice_web)
        (line,) = response.context["failing"]
        assert (line.waiting, line.next_at) == ("0", None)
        assert "Send all now" not in response.content.decode()

    def test_waiting_callbacks_are_counted_to_a_thousand(
        self, alice: Account, alice_web: Client
    ) -> None:
        endpoint_of(alice)
        first = delivery_of(alice)
        CallbackDelivery.objects.bulk_create(
            CallbackDelivery(
                account=alice, call=first.call, kind="onError", url=f"{BACKEND}/error", due_at=NOW
            )
            for _ in range(1000)
        )
        (line,) = get(alice_web).context["failing"]
        assert line.waiting == "1,000+"

    def test_some_of_many(
        self, alice: Account, alice_web: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "MOST_ENDPOINTS", 2)
        for number in range(3):
            endpoint_of(alice, origin=f"https://call-{number}.example:443")
        response = get(alice_web)
        assert len(response.context["failing"]) == 2
        assert "have failed the longest" in response.content.decode()

    def test_servers_are_suggested(self, alice: Account, alice_web: Client) -> None:
        endpoint_of(alice, origin="https://other.example:8443")
        PhoneNumber.objects.create(
            account=alice,
            phone_number="+15551234567",
            on_call_start_url=f"{BACKEND}/start",
            on_call_end_url=f"{BACKEND}/end",
        )
        assert get(alice_web).context["endpoints"] == [OTHER, BACKEND]


class TestSend:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(alice)
        response = alice_web.post(f"{PATH}/{delivery.id}/send?state=failing&after=x")
        assert response["Location"] == f"{PATH}?state=failing&after=x"
        assert jobs(outbox.TASK) == [(outbox.TASK, {"delivery_id": delivery.id})]
        assert "Sending onCallEnd now." in get(alice_web).content.decode()

    def test_what_was_erased(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(alice, state="given-up", sealed_body=None)
        alice_web.post(f"{PATH}/{delivery.id}/send")
        assert "so it cannot be sent again" in get(alice_web).content.decode()

    def test_another_account_gets_404(self, alice: Account, bob_web: Client) -> None:
        delivery = delivery_of(alice)
        assert bob_web.post(f"{PATH}/{delivery.id}/send").status_code == 404
        assert jobs(outbox.TASK) == []

    def test_only_active_accounts_may(self, carol: Account, carol_web: Client) -> None:
        delivery = delivery_of(carol)
        assert "Send now" not in get(carol_web).content.decode()
        carol_web.post(f"{PATH}/{delivery.id}/send")
        assert jobs(outbox.TASK) == []

    def test_a_link_sends_nothing(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(alice)
        assert alice_web.get(f"{PATH}/{delivery.id}/send").status_code == 405
        assert alice_web.get(f"{PATH}/send").status_code == 405


class TestSendAll:
    def post(self, web: Client, endpoint: str = BACKEND) -> str:
        response = web.post(f"{PATH}/send?state=failing", {"endpoint": endpoint})
        assert response["Location"] == f"{PATH}?state=failing"
        return str(web.get(PATH).content.decode())

    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(alice)
        with CaptureQueriesContext(connection) as captured:
            text = self.post(alice_web)
        assert f"Sending the callbacks that wait for {BACKEND}" in text
        assert not any("UPDATE telephony_callbackdelivery" in each["sql"] for each in captured)
        ((task, arguments),) = jobs(early.TASK)
        assert task == early.TASK
        assert arguments["account_id"] == alice.id
        assert arguments["origin"] == f"{BACKEND}:443"
        assert datetime.fromisoformat(arguments["until"]) == delivery.due_at

    def test_nothing_waits(self, alice: Account, alice_web: Client) -> None:
        delivery_of(alice, state="delivered")
        assert f"No callbacks wait for {BACKEND}." in self.post(alice_web)
        assert jobs(early.TASK) == []

    @pytest.mark.parametrize("endpoint", ["", "https://"])
    def test_no_endpoint(self, alice_web: Client, endpoint: str) -> None:
        assert "Choose an endpoint first." in self.post(alice_web, endpoint)

    def test_another_account_sends_nothing_of_it(self, alice: Account, bob_web: Client) -> None:
        delivery_of(alice)
        assert "No callbacks wait" in self.post(bob_web)
        assert jobs(early.TASK) == []

    def test_only_active_accounts_may(self, carol: Account, carol_web: Client) -> None:
        delivery_of(carol)
        self.post(carol_web)
        assert jobs(early.TASK) == []

    def test_it_is_limited(self, alice: Account, alice_web: Client) -> None:
        delivery_of(alice)
        for _ in range(10):
            assert "Too many attempts" not in self.post(alice_web)
        assert "Too many attempts" in self.post(alice_web)
