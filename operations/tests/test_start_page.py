"""The operators' start page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Account
from billing.metering.delivery import NO_CUSTOMER
from billing.models import MeterEvent, MeterProblem, StatusChange
from billing.tests.plans import planned
from core.ids import first_id_of
from core.queue import lanes
from core.queue.jobs import defer
from core.tests.histories import insert_copies
from operations import figures
from operations.conditions import Facts
from operations.failures import failures
from operations.start_page import needing_attention, todays_figures
from telephony.models import Call, CallbackDelivery, Process
from telephony.processes import Identity, process_beat, process_leave
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db

INDEX = reverse("admin:index")


@pytest.fixture
def olga(operator: Account) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture(autouse=True)
def processes() -> list[Identity]:
    """An engine and a worker that are up."""
    known = [
        Identity(Process.Kind.ENGINE),
        Identity(Process.Kind.WORKER, queues=tuple(lanes.PLACES)),
    ]
    for each in known:
        process_beat(each)
    return known


def silence(process: Identity, duration: timedelta) -> None:
    Process.objects.filter(pk=process.id).update(last_seen_at=timezone.now() - duration)


def found() -> dict[str, str]:
    return {figure.label: figure.text for figure in needing_attention(Facts())}


def call_of(account: Account, **fields: Any) -> Call:
    call = call_with(account, **fields)
    call.save(force_insert=True)
    return call


def call_with(account: Account, **fields: Any) -> Call:
    return Call(
        account=account,
        direction="inbound",
        status="in-progress",
        caller_phone="+15550001111",
        called_number="+15550002222",
        on_call_start_url="https://example.org/start",
        on_call_end_url="https://example.org/end",
        **fields,
    )


def used(account: Account, call_sid: str, *, minutes: int, **fields: Any) -> UsageRecord:
    return UsageRecord.objects.create(
        account=account,
        call_sid=call_sid,
        direction="inbound",
        duration_seconds=minutes * 60,
        minutes=minutes,
        platform_cost=0,
        twilio_cost=0,
        openai_cost=0,
        **fields,
    )


class TestFigures:
    def test_they_are_of_today(self, alice: Account, bob: Account) -> None:
        for number, account in enumerate([alice, bob, bob]):
            used(account, f"CA{number}", minutes=number + 1)
        yesterday = timezone.now() - timedelta(days=1)
        used(bob, "CA3", minutes=90, id=first_id_of(yesterday), created_at=yesterday)
        call_of(alice)
        call_of(alice, ended_at=timezone.now())
        texts = {figure.label: figure.text for figure in todays_figures()}
        assert texts == {
            "calls in progress": "1",
            "calls ended today": "3",
            "minutes today": "6",
            "new accounts today": "2",
        }

    def test_nothing_needs_attention(self, olga: Client, alice: Account) -> None:
        assert needing_attention(Facts()) == []
        text = olga.get(INDEX).content.decode()
        assert "Nothing needs your attention." in text
        assert "No call has ended." in text

    def test_what_needs_attention(self, alice: Account) -> None:
        MeterProblem.objects.create(kind="refused", key="refused-CA1", account=alice, detail={})
        for attempts in (1, 5):
            callback_of(call_of(alice), attempts=attempts)
        found = {figure.label: figure.text for figure in needing_attention(Facts())}
        assert found == {"meter problem": "1", "callback that keeps failing": "1"}

    def test_how_long_something_waits(self, alice: Account) -> None:
        """A job without a time is one that should have run at once."""
        ProcrastinateJob.objects.all().delete()
        callback_of(call_of(alice), due_at=timezone.now() - timedelta(hours=3, minutes=5))
        callback_of(call_of(alice), due_at=timezone.now() + timedelta(hours=1))
        defer("billing.tasks.check_status", account_id=alice.id)
        assert set(self.labels()) == {"behind on callbacks"}
        with connection.cursor() as cursor:
            cursor.execute("UPDATE procrastinate_events SET at = at - interval '25 minutes'")
        assert self.labels() == {
            "behind on callbacks": "3 h",
            "behind on jobs": "25 min",
        }

    def labels(self) -> dict[str, str]:
        return {figure.label: figure.text for figure in needing_attention(Facts())}

    def test_the_page_links_to_the_lists(self, olga: Client, alice: Account) -> None:
        MeterProblem.objects.create(kind="refused", key="refused-CA1", account=alice, detail={})
        page = olga.get(INDEX).content.decode()
        assert "/admin/billing/meterproblem/?open=yes" in page
        fail(alice, "engine_lost")
        fail(alice, "")
        failed = failures()
        found = [*failed.by_code, *failed.by_account, *needing_attention(Facts())]
        assert len(found) == 5
        for figure in [*todays_figures(), *found]:
            assert olga.get(figure.url).status_code == 200, figure
        for cause in failed.by_code:
            assert "No calls match" not in olga.get(cause.url).content.decode()


class TestProcesses:
    def test_an_engine_that_crashed_needs_attention(self, processes: list[Identity]) -> None:
        """Also if it held no call, and if another one has taken its place."""
        silence(processes[0], timedelta(seconds=30))
        engine = f"engine {processes[0].host}:{processes[0].pid}"
        silent = {f"process fell silent in the last 24 hours, the last one {engine}": "1"}
        assert found() == {"accepts calls": "No engine"} | silent
        process_beat(Identity(Process.Kind.ENGINE))
        assert found() == silent

    def test_a_draining_engine_accepts_no_calls(self, processes: list[Identity]) -> None:
        process_beat(processes[0], is_draining=True)
        assert found() == {"accepts calls": "No engine"}

    def test_a_worker_is_needed(self, processes: list[Identity]) -> None:
        process_leave(processes[1].id)
        assert found() == {"is running": "No worker"}

    def test_every_queue_needs_a_worker(self, processes: list[Identity]) -> None:
        process_leave(processes[1].id)
        process_beat(Identity(Process.Kind.WORKER, queues=("calls", "money", "callbacks")))
        assert found() == {"queues without a worker: mail, upkeep": "2"}
        process_beat(Identity(Process.Kind.WORKER, queues=("mail",)))
        assert found() == {"queue without a worker: upkeep": "1"}

    def test_versions_need_attention_once_no_deploy_takes_as_long(
        self, processes: list[Identity]
    ) -> None:
        process_beat(Identity(Process.Kind.WEB, version="2.0.0"))
        assert found() == {}
        Process.objects.update(started_at=timezone.now() - timedelta(minutes=61))
        side_by_side = "versions have been running side by side for over an hour"
        assert found() == {side_by_side: "2"}
        process_beat(processes[0], is_draining=True)
        process_beat(processes[1], is_draining=True)
        assert side_by_side not in found()


class TestMoney:
    def test_minutes_that_stripe_does_not_get(self, alice: Account) -> None:
        for number, error in enumerate(["Timeout", NO_CUSTOMER]):
            used(alice, f"CA{number}", minutes=1)
            record = UsageRecord.objects.get(call_sid=f"CA{number}")
            MeterEvent.objects.create(
                identifier=record.call_sid,
                usage_record=record,
                account=alice,
                minutes=1,
                happened_at=timezone.now() - timedelta(hours=3 + number, minutes=1),
                last_error=error,
            )
        assert found() == {"behind on minutes for Stripe": "3 h"}

    @pytest.mark.parametrize(
        ("cause", "is_found"), [("nightly", True), ("customer.subscription.updated", False)]
    )
    def test_a_status_that_only_the_schedule_corrected(
        self, alice: Account, cause: str, is_found: bool
    ) -> None:
        change = {"account": alice, "before": "ACTIVE", "after": "INACTIVE", "cause": cause}
        StatusChange.objects.create(**change)
        StatusChange.objects.create(**change, at=timezone.now() - timedelta(hours=25))
        label = "status that only the schedule corrected in the last 24 hours"
        assert found() == ({label: "1"} if is_found else {})


class TestFailures:
    def test_they_are_counted_by_code_and_account(
        self, olga: Client, alice: Account, bob: Account
    ) -> None:
        for account, code in ((alice, "model_unreachable"), (bob, "model_unreachable"), (bob, "")):
            fail(account, code)
        yesterday = timezone.now() - timedelta(days=1, minutes=1)
        fail(alice, "tool_failed", id=f"{first_id_of(yesterday)}{'0' * 16}")
        end(alice, "caller_hangup")
        end(alice, "rejected")
        call_of(alice)
        failed = failures()
        assert {f.label: f.text for f in failed.by_code} == {
            "model_unreachable": "2",
            "model_error": "1",
        }
        assert [(f.label, f.text) for f in failed.by_account] == [
            ("bob@example.org", "2"),
            ("alice@example.org", "1"),
        ]
        assert failed.rate == "60.0% of the last 5 calls failed, and 20.0% were rejected"
        text = olga.get(INDEX).content.decode()
        assert f"{failed.rate}." in text

    @pytest.mark.parametrize(
        ("reason", "how"),
        [
            ("model_error", "failed"),
            ("rejected", "was rejected"),
            ("caller_hangup", "did not fail"),
        ],
    )
    def test_a_single_call(self, alice: Account, reason: str, how: str) -> None:
        end(alice, reason)
        assert failures().rate == f"1 call ended, and it {how}"

    @pytest.mark.parametrize(
        ("code", "label"),
        [
            ("engine_lost", "call lost with its engine in the last 24 hours"),
            ("internal_error", "call ended by an internal error in the last 24 hours"),
        ],
    )
    def test_a_crash_needs_attention(self, alice: Account, code: str, label: str) -> None:
        fail(alice, code)
        [figure] = needing_attention(Facts())
        assert (figure.label, figure.text) == (label, "1")

    @pytest.mark.parametrize(("completed", "is_shown"), [(18, False), (19, True), (20, False)])
    def test_many_of_enough_calls_need_attention(
        self, alice: Account, completed: int, is_shown: bool
    ) -> None:
        fail(alice, "model_unreachable")
        for _ in range(completed):
            end(alice, "caller_hangup")
        shown = [figure.text for figure in needing_attention(Facts())]
        assert shown == (["5.0%"] if is_shown else [])

    def test_many_rejected_calls_need_attention(self, alice: Account) -> None:
        for reason in ("rejected", "caller_hangup", "caller_hangup", "caller_hangup"):
            for _ in range(5):
                end(alice, reason)
        assert found() == {"of the last 20 calls were rejected": "25.0%"}

    def test_the_page_reads_no_history_and_asks_no_more(
        self, olga: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "MOST", 100)
        olga.get(INDEX)
        queries = []
        for count in (1, 3_000):
            make_history(alice, count)
            with planned() as plans, CaptureQueriesContext(connection) as captured:
                olga.get(INDEX)
            queries.append(len(captured))
        assert plans.rows_looked_at <= 3 * 100
        assert queries[0] == queries[1]


def make_history(account: Account, count: int) -> None:
    """Make calls that ended an hour and more ago, half of them failed, each with a callback."""
    call = call_with(account, ended_at=timezone.now())
    insert_copies(call, count, ended_reason="(ARRAY['model_error', 'caller_hangup'])[1 + n % 2]")
    delivery = CallbackDelivery(
        account=account,
        call=Call.objects.latest("id"),
        kind="onError",
        url=call.on_call_end_url,
        state="delivered",
    )
    insert_copies(delivery, count)


def fail(account: Account, error_code: str, **fields: Any) -> Call:
    return end(account, "model_error", error_code=error_code, **fields)


def end(account: Account, reason: str, **fields: Any) -> Call:
    return call_of(account, ended_reason=reason, ended_at=timezone.now(), **fields)


def callback_of(call: Call, **fields: Any) -> None:
    CallbackDelivery.objects.create(
        account=call.account, call=call, kind="onCallEnd", url="https://example.org/end", **fields
    )
