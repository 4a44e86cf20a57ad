"""Calls, numbers and callbacks in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from billing.tests.plans import planned
from core.admin import CappedPaginator
from core.ids import new_id
from core.sealing import seal
from core.tests.histories import insert_copies
from telephony.admin import MOST_OF_A_NUMBER
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Result
from telephony.engine.codes import OUTCOMES
from telephony.models import (
    Call,
    CallbackDelivery,
    CallProgress,
    PhoneNumber,
    Process,
    SealedPlan,
)
from telephony.processes import Identity, process_beat
from telephony.services import call_note

pytestmark = pytest.mark.django_db

CALLS = reverse("admin:telephony_call_changelist")
ENDED = {"ended_at": timezone.now(), "status": Call.Status.COMPLETED}
CANARY = "canary-that-nobody-may-read"


@pytest.fixture
def olga(client: Client, operator: Account) -> Client:
    """A browser in which the operator has logged in."""
    client.force_login(operator)
    return client


@pytest.fixture
def call(alice: Account) -> Call:
    return call_of(alice)


def call_of(account: Account, number: int = 1, **fields: Any) -> Call:
    values = {
        "call_sid": f"CA{number:032x}",
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.IN_PROGRESS,
        "caller_phone": "+19805551234",
        "called_number": "+15551234567",
        "on_call_start_url": "https://your-backend.com/calls/start",
        "on_call_end_url": "https://your-backend.com/calls/end",
    }
    return Call.objects.create(account=account, **values | fields)


def make_history(account: Account, count: int) -> None:
    """Make ended calls, all with the same numbers and the same outcome."""
    call = Call(
        account=account,
        direction=Call.Direction.INBOUND,
        status=Call.Status.COMPLETED,
        caller_phone="+19805551234",
        called_number="+15551234567",
        ended_reason="caller_hangup",
        ended_at=timezone.now(),
    )
    insert_copies(
        call,
        count,
        call_sid="'CA' || lpad(to_hex(n), 32, '0')",
        created_at=f"now() + (n - {count}) * interval '1 second'",
    )


def number_of(account: Account) -> PhoneNumber:
    return PhoneNumber.objects.create(
        account=account,
        phone_number="+15551234567",
        on_call_start_url="https://your-backend.com/calls/start",
        on_call_end_url="https://your-backend.com/calls/end",
    )


def page_of(thing: Any) -> str:
    return reverse(f"admin:telephony_{thing._meta.model_name}_change", args=[thing.pk])


def text_of(browser: Client, path: str, **query: str) -> str:
    response = browser.get(path, query)
    assert response.status_code == 200
    return response.content.decode()


class TestCalls:
    def test_it_works(self, olga: Client, call: Call) -> None:
        text = text_of(olga, CALLS)
        for shown in ("alice@example.org", "+19805551234", "+15551234567", "In progress"):
            assert shown in text

    def test_the_accounts_number_comes_first(self, olga: Client, alice: Account) -> None:
        """Whichever side it is on."""
        call_of(alice, 1)
        call_of(alice, 2, direction="outbound", caller_phone="+15551234567", called_number="+1980")
        for row in olga.get(CALLS).context["results"]:
            assert "+15551234567" in row[3]
            assert "+1980" in row[4]

    def test_it_shows_what_went_wrong(self, olga: Client, alice: Account) -> None:
        ended = {"ended_at": timezone.now(), "answered_at": timezone.now(), "duration_seconds": 187}
        call = call_of(alice, ended_reason="rejected", error_code="call_start_timeout", **ended)
        text = text_of(olga, CALLS)
        for shown in ("Failed", "title='call_start_timeout'", "3:07"):
            assert shown in text
        assert "onCallStart did not respond in time." in text_of(olga, page_of(call))

    @pytest.mark.parametrize(
        "query",
        [
            {"outcome": "failed"},
            {"error_code": "model_unreachable"},
            {"ended_reason": "model_error"},
            {"direction__exact": "outbound"},
            {"outcome": "failed", "direction__exact": "outbound", "q": "alice@example.org"},
        ],
    )
    def test_the_filters_filter(
        self, olga: Client, call: Call, alice: Account, query: dict[str, str]
    ) -> None:
        failed = call_of(
            alice,
            2,
            direction="outbound",
            ended_at=timezone.now(),
            ended_reason="model_error",
            error_code="model_unreachable",
        )
        text = text_of(olga, CALLS, **query)
        assert page_of(failed) in text
        assert page_of(call) not in text

    @pytest.mark.parametrize(
        "term",
        [
            *("{sid}", "{sid:.10}", "{id}", "{id:.22}", "{account}", "Alice@example.org"),
            *("+19805551234", "+15551234567", "(980) 555-1234"),
        ],
    )
    def test_an_operator_finds_a_call(
        self, olga: Client, call: Call, bob: Account, term: str
    ) -> None:
        sid = "CA" + "b" * 32
        other = call_of(bob, call_sid=sid, caller_phone="+1", called_number="+1")
        term = term.format(sid=call.call_sid, id=call.id, account=call.account_id)
        text = text_of(olga, CALLS, q=term)
        assert page_of(call) in text
        assert page_of(other) not in text

    def test_what_is_not_there_is_not_found(self, olga: Client, call: Call) -> None:
        for term in ("+12025550187", "CA" + "b" * 32, new_id(), "nobody@example.org", "nobody"):
            text = text_of(olga, CALLS, q=term)
            assert page_of(call) not in text
            assert "No calls match your search." in text

    def test_an_empty_list_says_so(self, olga: Client) -> None:
        assert "There are no calls yet." in text_of(olga, CALLS)

    def test_calls_in_progress_are_told_apart(
        self, olga: Client, call: Call, alice: Account
    ) -> None:
        ended = call_of(alice, 2, ended_at=timezone.now(), ended_reason="caller_hangup")
        for outcome, shown, hidden in (("in-progress", call, ended), ("completed", ended, call)):
            text = text_of(olga, CALLS, outcome=outcome)
            assert page_of(shown) in text
            assert page_of(hidden) not in text

    SEARCHES: ClassVar[list[dict[str, str]]] = [
        {},
        *({"outcome": outcome} for outcome in OUTCOMES),
        {"ended_reason": "engine_lost"},
        {"ended_reason": "no_such_reason"},
        {"error_code": "engine_lost"},
        {"error_code": "no_such_code"},
        {"direction__exact": "inbound"},
        {"direction__exact": "outbound"},
        {"q": f"CA{7:032x}"},
        {"q": f"CA{7:032x}"[:33]},
        {"q": "alice@example.org"},
        {"q": "alice@example.org", "outcome": "failed"},
        {"q": "alice@example.org", "error_code": "engine_lost"},
        {"q": "bob@example.org"},
        {"q": "+19805551234"},
        {"q": "+12025550187"},
    ]

    def test_no_search_reads_the_history(
        self, olga: Client, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each reads as many calls as the paginator counts, or as are found of a number."""
        monkeypatch.setattr(CappedPaginator, "MOST", MOST_OF_A_NUMBER)
        make_history(alice, 12_000)
        call_of(bob, 20_000, caller_phone="+12025550187")
        call_of(alice, 20_001, ended_reason="engine_lost", error_code="engine_lost", **ENDED)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE telephony_call")
        for search in self.SEARCHES:
            with planned() as plans:
                text_of(olga, CALLS, **search)
            assert plans.rows_looked_at <= 2 * MOST_OF_A_NUMBER + 2, search

    def test_an_engines_calls_are_found_also_after_it_is_gone(
        self, olga: Client, alice: Account
    ) -> None:
        here, gone = Identity(Process.Kind.ENGINE, host="a.example", pid=7), new_id()
        process_beat(here)
        mine, other = call_of(alice, 1, engine_id=here.id), call_of(alice, 2, engine_id=gone)
        text = text_of(olga, CALLS, engine=here.id)
        assert page_of(mine) in text
        assert page_of(other) not in text
        assert "a.example:7" in text
        text = text_of(olga, CALLS, engine=gone)
        assert page_of(mine) not in text
        assert page_of(other) in text
        assert f"{CALLS}?engine={gone}" in text_of(olga, page_of(other))
        assert page_of(Process.objects.get()) in text_of(olga, page_of(mine))

    def test_an_engines_calls_are_read_from_its_index(self, olga: Client, alice: Account) -> None:
        make_history(alice, 3000)
        gone = new_id()
        mine = [call_of(alice, 5000 + number, engine_id=gone) for number in range(3)]
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE telephony_call")
        with planned() as plans:
            text = text_of(olga, CALLS, engine=gone)
        places = [text.index(page_of(call)) for call in mine]
        assert places == sorted(places, reverse=True)
        assert "call_of_engine" in plans.indexes
        assert plans.rows_looked_at <= 100

    @pytest.mark.parametrize("term", ["{sid:.10}", "{id:.22}"])
    def test_a_search_by_the_beginning_uses_an_index_in_any_collation(
        self, olga: Client, call: Call, term: str
    ) -> None:
        """An index finds a range in any, but what LIKE matches only in C, which tests use."""
        with CaptureQueriesContext(connection) as queries:
            text = text_of(olga, CALLS, q=term.format(sid=call.call_sid, id=call.id))
        assert page_of(call) in text
        assert not any(" LIKE " in query["sql"] for query in queries)

    def test_the_number_of_queries_does_not_grow(self, olga: Client, alice: Account) -> None:
        counts = []
        for number in range(3):
            call_of(alice, number)
            with CaptureQueriesContext(connection) as queries:
                text_of(olga, CALLS)
            counts.append(len(queries))
        assert counts[1] == counts[2]

    def test_long_tables_are_not_counted_to_the_end(
        self, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            call_of(alice, number)
        monkeypatch.setattr(CappedPaginator, "MOST", 2)
        assert CappedPaginator(Call.objects.order_by("-id"), 100).count == 2

    def test_the_page_of_a_call_tells_what_happened(self, olga: Client, call: Call) -> None:
        call_note(call, "tool_called", name="look_up")
        delivery_of(call)
        text = text_of(olga, page_of(call))
        for shown in (call.id, call.call_sid, "tool_called", "look_up", "onError", "HTTP 500"):
            assert shown in text

    def test_nothing_can_be_changed(self, olga: Client, call: Call) -> None:
        assert olga.post(page_of(call), {"status": "busy"}).status_code == 403
        assert olga.post(f"{page_of(call)[:-7]}delete/", {"post": "yes"}).status_code == 403
        assert olga.get(reverse("admin:telephony_call_add")).status_code == 403
        call.refresh_from_db()
        assert call.status == Call.Status.IN_PROGRESS


class TestHangUp:
    def hang_up(self, browser: Client, *calls: Call) -> Any:
        body = {"action": "hang_up", "_selected_action": [call.pk for call in calls]}
        return browser.post(CALLS, body, follow=True)

    def test_it_works(self, olga: Client, call: Call, alice: Account) -> None:
        ended = call_of(alice, 2, ended_at=timezone.now())
        response = self.hang_up(olga, call, ended)
        assert [str(message) for message in response.context["messages"]] == [
            f"Call {ended}: This call has already ended.",
            "Requested a hangup: 1.",
        ]
        call.refresh_from_db()
        ended.refresh_from_db()
        assert call.hangup_requested_at
        assert ended.hangup_requested_at is None
        assert LogEntry.objects.get().object_id == call.pk

    def test_a_viewer_cannot(self, client: Client, call: Call) -> None:
        clerk = Account.objects.create_user("clerk@example.org", "a long walk", is_staff=True)
        clerk.user_permissions.add(Permission.objects.get(codename="view_call"))
        client.force_login(clerk)
        assert "hang_up" not in text_of(client, CALLS)
        self.hang_up(client, call)
        call.refresh_from_db()
        assert call.hangup_requested_at is None


class TestNumbers:
    def test_an_operator_switches_a_number_off(self, olga: Client, alice: Account) -> None:
        number = number_of(alice)
        body = {"phone_number": "+15550000000", "on_call_start_url": "https://evil.example.com"}
        assert olga.post(page_of(number), body).status_code == 302
        number.refresh_from_db()
        assert not number.is_active
        assert number.phone_number == "+15551234567"
        assert number.on_call_start_url == "https://your-backend.com/calls/start"

    def test_numbers_are_neither_added_nor_removed(self, olga: Client, alice: Account) -> None:
        number = number_of(alice)
        assert olga.get(reverse("admin:telephony_phonenumber_add")).status_code == 403
        path = reverse("admin:telephony_phonenumber_delete", args=[number.pk])
        assert olga.post(path, {"post": "yes"}).status_code == 403
        assert "+15551234567" in text_of(olga, reverse("admin:telephony_phonenumber_changelist"))


def delivery_of(call: Call) -> CallbackDelivery:
    return CallbackDelivery.objects.create(
        account=call.account,
        call=call,
        kind=CallbackDelivery.Kind.ERROR,
        url="https://your-backend.com/calls/error",
        sealed_body=seal(CANARY.encode(), purpose=CallbackDelivery.PURPOSE),
        attempts=1,
        last_result="HTTP 500",
    )


class TestSendNow:
    URL = reverse("admin:telephony_callbackdelivery_changelist")

    def test_it_works(self, olga: Client, call: Call) -> None:
        delivery = delivery_of(call)
        CallbackDelivery.objects.update(due_at=timezone.now() + timedelta(hours=2))
        body = {"action": "send_now", "_selected_action": [delivery.pk]}
        assert "Send these callbacks now?" in olga.post(self.URL, body).content.decode()
        olga.post(self.URL, body | {"confirmed": "yes"})
        assert CallbackDelivery.objects.ready().get() == delivery
        assert LogEntry.objects.get().object_id == delivery.pk

    def test_one_that_has_ended_says_why_not(self, olga: Client, call: Call) -> None:
        delivery = delivery_of(call)
        CallbackDelivery.objects.update(state=CallbackDelivery.State.DELIVERED, sealed_body=None)
        body = {"action": "send_now", "_selected_action": [delivery.pk], "confirmed": "yes"}
        assert "erased" in olga.post(self.URL, body, follow=True).content.decode()


class TestSecrets:
    def test_no_page_shows_what_is_sealed(self, olga: Client, call: Call) -> None:
        delivery = delivery_of(call)
        attempts.keep_all([(delivery, Result("HTTP 500", duration_ms=84, answer=CANARY))])
        SealedPlan.objects.create(call=call, ciphertext=CANARY.encode(), expires_at=timezone.now())
        CallProgress.objects.create(call=call, account=call.account, sealed=CANARY.encode())
        pages = [
            page_of(call),
            page_of(delivery),
            CALLS,
            reverse("admin:telephony_callbackdelivery_changelist"),
        ]
        with CaptureQueriesContext(connection) as queries:
            texts = [text_of(olga, page) for page in pages]
        sealed = bytes(delivery.sealed_body or b"").decode()
        for text in texts:
            assert CANARY not in text
            assert sealed not in text
            assert "sealed" not in text.lower()
        assert not any("sealed_body" in query["sql"] for query in queries)
        assert delivery.url in texts[1]
        assert "84" in texts[1], "the attempt"

    def test_sealed_plans_have_no_page(self, olga: Client) -> None:
        index = text_of(olga, reverse("admin:index"))
        assert "Callback deliveries" in index
        assert "sealed" not in index.lower()
        assert "callprogress" not in index


class TestRelease:
    def test_it_works(self, olga: Client, bob: Account, alice: Account) -> None:
        number = PhoneNumber.objects.create(
            account=bob,
            phone_number="+12025550123",
            on_call_start_url="https://example.org/start",
            on_call_end_url="https://example.org/end",
        )
        url = reverse("admin:telephony_phonenumber_changelist")
        body = {"action": "release", "_selected_action": [number.pk]}
        assert "any account can register them" in olga.post(url, body).content.decode()
        assert PhoneNumber.objects.filter(pk=number.pk).exists()
        olga.post(url, body | {"confirmed": "yes"})
        assert not PhoneNumber.objects.filter(pk=number.pk).exists()
