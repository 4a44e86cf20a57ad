"""The overview: what to do next, figures, the chart, the calls in progress."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.audit import AuditEvent
from accounts.models import Account, ApiKey
from accounts.services import checklist_hide
from dashboard.call_words import milliseconds
from dashboard.checklist import Step
from dashboard.overview import MOST_NUMBERS
from dashboard.tests.pages import assert_well_made
from dashboard.tests.test_calls import make_history, plan_of
from telephony.call_days import Latencies, call_count
from telephony.call_figures import figures_at_end
from telephony.call_sids import new_test_sid
from telephony.models import Call, CallDay, NumberDay, PhoneNumber
from usage.models import DailyUsage, TotalUsage
from usage.services import usage_record_create
from usage.spending import spending_limit_set

pytestmark = pytest.mark.django_db

PATH = "/dashboard"
LIVE = "/dashboard/live"
HTMX = {"HX-Request": "true"}


class Page(HTMLParser):
    """A page's queries, text and markup."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, str]] = []
        self.links: set[str] = set()
        self.inline: list[str] = []
        self.headings: list[int] = []
        self.charts: list[dict[str, Any]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((values.get("method", "get"), values["action"]))
        if tag == "a":
            self.links.add(values["href"])
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        if tag == "style" or "style" in values or (tag == "script" and not values.get("src")):
            self.inline.append(tag)
        if values.get("class") == "chart":
            self.charts.append(json.loads(values["data-chart"]))

    def series(self) -> dict[str, list[float | None]]:
        """Return the values of every series by its label; of the latencies, onCallStart's."""
        return {
            each["label"]: each["values"]
            for chart in reversed(self.charts)
            for each in chart["series"]
        }


def page_of(response: Any) -> Page:
    assert response.status_code == 200
    return Page(response.content.decode())


def call_of(account: Account, number: int = 1, **fields: Any) -> Call:
    known: dict[str, Any] = {
        "account": account,
        "call_sid": f"CA{account.id[-12:]}{number:020}",
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.IN_PROGRESS,
        "caller_phone": "+15550001111",
        "called_number": "+15550002222",
        "on_call_start_url": "https://backend.example/start",
        "on_call_end_url": "https://backend.example/end",
    }
    return Call.objects.create(**known | fields)


def used(account: Account, day: date, *, calls: int, minutes: int, failed: int = 0) -> None:
    CallDay.objects.create(
        account=account,
        day=day,
        completed=calls - failed,
        failed=failed,
        on_call_start=[],
        turns=[],
    )
    DailyUsage.objects.create(account=account, day=day, calls=calls, minutes=minutes)
    total = TotalUsage.objects.total_of(account)
    total.calls, total.minutes = total.calls + calls, total.minutes + minutes
    total.save()


class TestOverview:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        _ended_call(alice, seconds=61)
        response = alice_web.get(PATH)
        page = page_of(response)
        assert response.context["month_calls"] == 1
        assert response.context["month_minutes"] == 2
        assert response.context["month_cost"] == "$0.10"
        assert response.context["steps"] == []
        assert [page.series()[name][-1] for name in ("Completed", "Failed", "Minutes")] == [1, 0, 2]
        assert page.inline == []
        assert_well_made(response.content.decode())
        assert page.headings == sorted(page.headings)

    def test_strangers_log_in_first(self) -> None:
        assert Client().get(PATH)["Location"] == "/login?next=/dashboard"

    def test_another_accounts_calls_are_not_there(self, alice: Account, bob_web: Client) -> None:
        used(alice, timezone.now().date(), calls=7, minutes=70)
        call = call_of(alice)
        response = bob_web.get(PATH)
        assert response.context["month_calls"] == response.context["month_minutes"] == 0
        assert response.context["steps"][3].done is False
        assert call.id not in response.content.decode()

    def test_it_costs_the_same_with_ten_calls_and_with_a_hundred(
        self,
        alice: Account,
        bob: Account,
        alice_web: Client,
        bob_web: Client,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        for account, count in ((alice, 10), (bob, 100)):
            _history(account, count)
        for client in (alice_web, bob_web):
            # Session, account, a call that completed, total, limit, days of calls and of minutes,
            # models that retire, numbers with responses, calls in progress.
            with django_assert_num_queries(10):
                assert page_of(client.get(PATH)).charts

    def test_the_checklist_costs_three_more(
        self,
        alice: Account,
        bob: Account,
        alice_web: Client,
        bob_web: Client,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        for account, count in ((alice, 10), (bob, 100)):
            _history(account, count, reason="model_session")
        for client in (alice_web, bob_web):
            with django_assert_num_queries(13):
                assert client.get(PATH).context["steps"]


class TestNumbers:
    def measured(self, account: Account, number: str, *latencies: int) -> None:
        NumberDay.objects.create(
            account=account,
            day=timezone.now().date(),
            number=number,
            responses=len(latencies),
            turns=Latencies.of(latencies).counts,
        )
        if not CallDay.objects.of(account).exists():
            used(account, timezone.now().date(), calls=1, minutes=1)

    def rows(self, web: Client) -> list[list[str]]:
        """Return the words of each row of the table."""
        text = web.get(PATH).content.decode()
        table = text.partition("Response times by number")[2].partition("</table>")[0]
        rows = re.findall(r'<tr><th scope="row">.*?</tr>', table, re.DOTALL)
        return [re.sub("<[^>]+>", " ", row).split() for row in rows]

    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        self.measured(alice, "+15550000001", *[600] * 9, 4_000)
        self.measured(alice, "+15550000002", *[700] * 20)
        alice.phone_numbers.create(phone_number="+15550000001", name="Bookings")
        fast, slow, other = (
            milliseconds(Latencies.of([ms]).percentile(0.5) or 0) for ms in (600, 4_000, 700)
        )
        assert self.rows(alice_web) == [
            ["+15550000002", "20", *other.split(), *other.split()],
            ["+15550000001", "Bookings", "10", *fast.split(), *slow.split()],
        ]
        links = page_of(alice_web.get(PATH)).links
        assert any(link.startswith("/dashboard/calls?number=%2B15550000001&") for link in links)

    def test_the_busiest_of_many(self, alice: Account, alice_web: Client) -> None:
        for number in range(MOST_NUMBERS + 1):
            self.measured(alice, f"+1555000{number:04}", *[600] * (number + 1))
        assert len(self.rows(alice_web)) == MOST_NUMBERS
        text = alice_web.get(PATH).content.decode()
        assert f"The {MOST_NUMBERS} numbers with the most turns" in text
        assert "+15550000000" not in text

    def test_calls_without_measured_responses(self, alice: Account, alice_web: Client) -> None:
        used(alice, timezone.now().date(), calls=1, minutes=1)
        assert self.rows(alice_web) == []
        assert "Not measured" in alice_web.get(PATH).content.decode()

    def test_another_accounts_numbers_are_not_there(
        self, alice: Account, bob: Account, bob_web: Client
    ) -> None:
        self.measured(alice, "+15550000001", 600)
        used(bob, timezone.now().date(), calls=1, minutes=1)
        assert self.rows(bob_web) == []

    def test_any_of_them_cost_two_more_queries(
        self, alice: Account, alice_web: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        used(alice, timezone.now().date(), calls=1, minutes=1)
        with CaptureQueriesContext(connection) as without:
            alice_web.get(PATH)
        for number in range(MOST_NUMBERS):
            self.measured(alice, f"+1555000{number:04}", 600)
        with django_assert_num_queries(len(without) + 2):
            alice_web.get(PATH)


class TestStatus:
    def test_active(self, alice_web: Client) -> None:
        page = page_of(alice_web.get(PATH))
        assert set(page.forms) == {("post", "/logout"), ("post", "/dashboard/checklist")}

    def test_who_has_not_paid_can(self, carol_web: Client) -> None:
        response = carol_web.get(PATH)
        assert "is not active yet" in response.content.decode()
        assert ("post", "/dashboard/billing/pay") in page_of(response).forms

    def test_whose_payment_failed_is_led_to_the_portal(self, dave_web: Client) -> None:
        response = dave_web.get(PATH)
        assert "suspended because a payment failed" in response.content.decode()
        assert ("post", "/dashboard/billing/manage") in page_of(response).forms

    @pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "SUSPENDED"])
    def test_an_operators_word_wins(self, alice: Account, alice_web: Client, status: str) -> None:
        Account.objects.update(suspended_by_operator=True, status=status)
        response = alice_web.get(PATH)
        text = response.content.decode()
        assert "This account was suspended by support" in text
        assert "Contact support" in text
        assert alice.id in text
        # Neither paying nor a card helps.
        assert {path for _, path in page_of(response).forms} == {"/logout", "/dashboard/checklist"}

    def test_a_spending_limit_that_is_reached(
        self, alice: Account, bob: Account, alice_web: Client, bob_web: Client
    ) -> None:
        for account, minutes in ((alice, 100), (bob, 99)):
            used(account, timezone.now().date(), calls=1, minutes=minutes)
            spending_limit_set(account=account, amount=Decimal(5))
        response = alice_web.get(PATH)
        assert "Your spending limit of $5.00 is reached" in response.content.decode()
        assert "/dashboard/billing#limit" in page_of(response).links
        assert "is reached" not in bob_web.get(PATH).content.decode()


class TestChecklist:
    def test_a_new_account_pays_first(self, carol_web: Client) -> None:
        response = carol_web.get(PATH)
        assert _states(response) == ["next", "to do", "to do", "to do", "to do"]
        page = page_of(response)
        connect = "/dashboard/numbers/connect"
        assert page.links >= {"/dashboard/keys", connect, "/dashboard/test-call"}
        assert page.inline == []

    def test_the_address_for_twilio_is_there(self, carol_web: Client, settings: Any) -> None:
        settings.ENGINE_URL = "https://engine.example"
        assert "https://engine.example/voice</code>" in carol_web.get(PATH).content.decode()

    def test_step_by_step(self, alice: Account, alice_web: Client) -> None:
        assert _states(alice_web.get(PATH)) == ["done", "next", "to do", "to do", "to do"]
        key = ApiKey.objects.create(account=alice, label="Default", prefix="rtk_abc", digest="1")
        assert _states(alice_web.get(PATH)) == ["done", "done", "next", "to do", "to do"]
        PhoneNumber.objects.create(account=alice, phone_number="+15550002222")
        assert _states(alice_web.get(PATH)) == ["done", "done", "done", "next", "to do"]
        call_of(alice, ended_at=timezone.now(), status=Call.Status.REJECTED)
        assert _states(alice_web.get(PATH)) == ["done", "done", "done", "done", "next"]
        key.revoked_at = timezone.now()
        key.save()
        assert _states(alice_web.get(PATH)) == ["done", "next", "done", "done", "to do"]

    def test_a_call_that_we_place_says_nothing_of_the_number(
        self, alice: Account, alice_web: Client
    ) -> None:
        call_of(alice, direction=Call.Direction.OUTBOUND)
        assert _states(alice_web.get(PATH))[3] == "to do"

    @pytest.mark.parametrize("reason", ["model_session", "rejected", "canceled", ""])
    def test_a_call_that_was_not_connected_changes_nothing(
        self, alice: Account, alice_web: Client, reason: str
    ) -> None:
        _ended_call(alice, seconds=0, reason=reason)
        assert alice_web.get(PATH).context["steps"]

    def test_a_test_call_is_not_a_call_from_twilio(self, alice: Account, alice_web: Client) -> None:
        PhoneNumber.objects.create(account=alice, phone_number="+15550002222")
        ApiKey.objects.create(account=alice, label="Default", prefix="rtk_abc", digest="1")
        _ended_call(alice, seconds=61, call_sid=new_test_sid())
        assert _states(alice_web.get(PATH)) == ["done", "done", "done", "next", "to do"]

    def test_it_is_hidden_and_shown_again(
        self, alice: Account, alice_web: Client, bob: Account, bob_web: Client
    ) -> None:
        settings_page = "/dashboard/settings"
        assert "Show checklist" not in alice_web.get(settings_page).content.decode()
        assert alice_web.post("/dashboard/checklist")["Location"] == PATH
        text = alice_web.get(PATH).content.decode()
        assert "Your first call" not in text
        assert "go to Settings" in text
        assert bob_web.get(PATH).context["steps"]
        assert "Show checklist" in alice_web.get(settings_page).content.decode()
        alice_web.post("/dashboard/checklist", {"show": "yes"})
        assert alice_web.get(PATH).context["steps"]

    def test_hiding_it_is_a_preference_and_not_in_the_audit_log(
        self, alice: Account, bob: Account
    ) -> None:
        for hides in (True, False):
            checklist_hide(account=alice, hides=hides)
            for account, is_hidden in ((alice, hides), (bob, False)):
                account.refresh_from_db()
                assert account.hides_checklist is is_hidden
        assert not AuditEvent.objects.of(alice).exists()

    def test_what_decides_that_it_is_done_is_read_from_an_index(
        self, alice: Account, alice_web: Client
    ) -> None:
        make_history([alice], 3_000, ended_reason="model_error")
        with CaptureQueriesContext(connection) as queries:
            alice_web.get(PATH)
        (sql,) = [each["sql"] for each in queries if "CASE WHEN" in each["sql"]]
        for node in plan_of(sql):
            assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 1, node

    def test_it_is_gone_after_a_call(self, alice: Account, alice_web: Client) -> None:
        _ended_call(alice, seconds=1)
        assert "Your first call" not in alice_web.get(PATH).content.decode()


class TestFigures:
    @pytest.fixture
    def today(self, monkeypatch: pytest.MonkeyPatch) -> date:
        """The 31st: of such a month the first day is no more among the last thirty."""
        moment = datetime(2026, 8, 31, 23, 59, tzinfo=UTC)
        monkeypatch.setattr("dashboard.overview.timezone.now", lambda: moment)
        return moment.date()

    def test_the_month_and_the_last_days(
        self, alice: Account, alice_web: Client, today: date, settings: Any
    ) -> None:
        settings.PER_MINUTE_RATE, settings.MONTHLY_BASE = Decimal("0.0125"), Decimal(7)
        used(alice, date(2026, 7, 31), calls=100, minutes=1000)
        used(alice, date(2026, 8, 1), calls=1, minutes=2)
        used(alice, date(2026, 8, 2), calls=10, minutes=20)
        used(alice, today, calls=1000, minutes=2000, failed=250)
        response = alice_web.get(PATH)
        assert response.context["month_calls"] == 1011
        assert response.context["month_minutes"] == 2022
        text = response.content.decode()
        assert "$25.28" in text  # 25.275
        assert "at $0.0125 a minute, plus $7.00 a month" in text
        assert "1,011</span> calls ended" in text
        assert "/dashboard/calls?outcome=failed&amp;since=2026-08-01" in text
        page = page_of(response)
        assert [len(chart["days"]) for chart in page.charts] == [30] * 5
        assert page.charts[0]["days"][0] == datetime(2026, 8, 2, tzinfo=UTC).timestamp()
        assert page.charts[0]["days"][-1] == datetime(2026, 8, 31, tzinfo=UTC).timestamp()
        series = page.series()
        assert series["Completed"] == [10, *[0] * 28, 750]
        assert series["Failed"] == [0, *[0] * 28, 250]
        assert series["Minutes"] == [20, *[0] * 28, 2000]
        assert page.charts[1]["series"][0]["values"] == [0, *[None] * 28, 25]

    def test_the_table_has_the_same_numbers(
        self, alice: Account, alice_web: Client, today: date
    ) -> None:
        used(alice, today, calls=1, minutes=2345)
        text = alice_web.get(PATH).content.decode()
        assert '<time datetime="2026-08-31">31 Aug 2026</time>' in text
        assert '<td class="number">2,345</td>' in text
        assert "30 Aug 2026" not in text

    def test_the_first_of_a_month_begins_anew(
        self, alice: Account, alice_web: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moment = datetime(2026, 9, 1, tzinfo=UTC)
        monkeypatch.setattr("dashboard.overview.timezone.now", lambda: moment)
        used(alice, date(2026, 8, 31), calls=5, minutes=6)
        response = alice_web.get(PATH)
        assert (response.context["month_calls"], response.context["month_cost"]) == (0, "$0.00")
        assert response.context["days"][-2].calls.calls == 5

    @pytest.mark.parametrize(("who", "what"), [("alice", "test-call"), ("carol", "not active")])
    def test_no_call_in_the_last_days(self, request: Any, who: str, what: str) -> None:
        account = request.getfixturevalue(who)
        used(account, timezone.now().date() - timedelta(days=30), calls=5, minutes=6)
        response = request.getfixturevalue(f"{who}_web").get(PATH)
        text = response.content.decode()
        assert page_of(response).charts == []
        assert "uplot" not in text.lower()
        assert what in text.partition("No calls in the last 30 days")[2]


class TestLiveCalls:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        rings = call_of(alice, 1, status=Call.Status.RINGING)
        talks = call_of(alice, 2, answered_at=timezone.now() + timedelta(seconds=5))
        over = call_of(alice, 3, ended_at=timezone.now())
        response = alice_web.get(LIVE, headers=HTMX)
        text = response.content.decode()
        assert "<html" not in text
        assert 'hx-get="/dashboard/live"' in text
        assert page_of(response).links == {f"/dashboard/calls/{call.id}" for call in (rings, talks)}
        assert over.id not in text
        assert "+15550001111" in text
        assert "+15550002222" in text
        assert f"{rings.created_at:%Y-%m-%dT%H:%M:%SZ}" in text
        assert f"{talks.answered_at:%Y-%m-%dT%H:%M:%SZ}" in text
        assert "no-store" in response["Cache-Control"]

    def test_the_page_has_the_same(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice)
        for response in (alice_web.get(LIVE, headers=HTMX), alice_web.get(PATH)):
            assert f'id="live-{call.id}"' in response.content.decode()

    def test_there_is_none(self, alice_web: Client) -> None:
        text = alice_web.get(LIVE, headers=HTMX).content.decode()
        assert "No calls right now" in text
        assert 'hx-trigger="every 3s"' in text

    def test_the_newest_of_very_many(self, alice: Account, alice_web: Client) -> None:
        calls = [call_of(alice, number) for number in range(51)]
        response = alice_web.get(LIVE, headers=HTMX)
        assert [each.call for each in response.context["live_calls"]] == calls[:0:-1]
        assert "Only the newest are shown" in response.content.decode()

    def test_another_accounts_calls_are_not_there(self, alice: Account, bob_web: Client) -> None:
        call = call_of(alice)
        assert call.id not in bob_web.get(LIVE, headers=HTMX).content.decode()

    def test_whoever_opens_it_gets_the_page(self, alice_web: Client) -> None:
        assert alice_web.get(LIVE)["Location"] == PATH

    def test_strangers_log_in_first(self) -> None:
        assert Client().get(LIVE, headers=HTMX)["Location"].startswith("/login")

    def test_it_costs_three_queries(
        self,
        alice: Account,
        alice_web: Client,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        for number in range(20):
            call_of(alice, number)
        with django_assert_num_queries(3):  # session, account, calls in progress
            alice_web.get(LIVE, headers=HTMX)


@pytest.mark.parametrize("path", [PATH, LIVE])
def test_nothing_is_written(alice_web: Client, path: str) -> None:
    assert alice_web.post(path).status_code == 405


def _states(response: Any) -> list[str]:
    assert response.status_code == 200
    return [_state(step) for step in response.context["steps"]]


def _state(step: Step) -> str:
    return "done" if step.done else "next" if step.is_next else "to do"


def _ended_call(
    account: Account, *, seconds: int, number: int = 1, reason: str = "caller_hangup", **fields: Any
) -> None:
    known = {"ended_at": timezone.now(), "status": Call.Status.COMPLETED, "ended_reason": reason}
    call = call_of(account, number, **known | fields)
    call_count(call, figures_at_end(call))
    with transaction.atomic():
        usage_record_create(
            account_id=account.id,
            call_sid=str(call.call_sid),
            direction=call.direction,
            caller_phone=call.caller_phone,
            called_number=call.called_number,
            duration_seconds=seconds,
            billed_seconds=seconds,
            twilio_cost=Decimal(0),
            openai_cost=Decimal(0),
            ended_at=timezone.now(),
        )


def _history(account: Account, count: int, **fields: Any) -> None:
    """So many calls, through the one way in which they are counted."""
    for number in range(count):
        _ended_call(account, number=number, **{"seconds": 30} | fields)
