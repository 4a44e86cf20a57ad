"""Problems of the meter, and Stripe's reports about it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from stripe import WebhookSignature

from accounts.models import Account
from billing.metering.problems import error_report, error_report_read, problem_note, problem_resolve
from billing.models import MeterEvent, MeterProblem, PlanPart
from billing.stripe_api import PaymentsUnavailable
from billing.tests.metered import event
from billing.tests.watched import WatchedStripe, failure
from core.sealing import seal

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_jobs")]

THIN = {
    "id": "evt_1",
    "object": "v2.core.event",
    "type": "v1.billing.meter.error_report_triggered",
    "created": "2026-04-10T10:00:00.000Z",
    "livemode": False,
    "related_object": {
        "id": "mtr_1",
        "type": "billing.meter",
        "url": "/v1/billing/meters/mtr_1",
    },
}


def report(*identifiers: str, code: str = "meter_event_customer_not_found") -> dict[str, Any]:
    """The whole event, as Stripe answers it when it is asked."""
    message = "Customer mapping key stripe_customer_id has no matching customer."
    samples = [
        {"error_message": message, "request": {"identifier": identifier}}
        for identifier in identifiers
    ]
    error = {"code": code, "error_count": len(samples), "sample_errors": samples}
    data = {
        "developer_message_summary": "There is 1 invalid event",
        "reason": {"error_count": len(samples), "error_types": [error]},
        "validation_start": "2026-04-10T09:00:00.000Z",
        "validation_end": "2026-04-10T09:01:00.000Z",
    }
    return {**THIN, "data": data}


def jobs() -> list[str]:
    """The reports that are to be read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select args ->> 'event_id' from procrastinate_jobs"
            " where task_name = 'billing.metering.tasks.read_error_report'"
        )
        return [event_id for (event_id,) in cursor.fetchall()]


class TestErrorReport:
    def test_it_works(self, capsys: pytest.CaptureFixture[str]) -> None:
        error_report(THIN["id"])
        [problem] = MeterProblem.objects.all()
        assert (problem.kind, problem.key, problem.account) == ("error-report", "evt_1", None)
        assert jobs() == ["evt_1"]

    def test_a_report_that_comes_twice_is_one(self) -> None:
        for _ in range(2):
            error_report(THIN["id"])
        assert MeterProblem.objects.count() == 1
        assert jobs() == ["evt_1"]

    def test_stripe_says_so_in_a_webhook(self) -> None:
        sealed = seal(b"whsec_0123456789abcdef", purpose=PlanPart.PURPOSE)
        PlanPart.objects.create(
            name=PlanPart.Name.METER_WEBHOOK, stripe_id="we_1", sealed_secret=sealed
        )
        text = json.dumps(THIN)
        signature = WebhookSignature.generate_signature_header(text, "whsec_0123456789abcdef")
        response = Client().post(
            "/webhooks/stripe/meter",
            text,
            content_type="application/json",
            headers={"Stripe-Signature": signature},
        )
        assert response.status_code == 200
        assert MeterProblem.objects.get().key == "evt_1"

    @pytest.mark.parametrize("named_by", ["{}", "{}-0", "{}-12"])
    def test_events_that_it_names_were_not_counted(
        self, alice: Account, stripes_meter: WatchedStripe, named_by: str
    ) -> None:
        """Stripe names them by the idempotency key of their request."""
        named, other = event(alice, state="sent"), event(alice, state="sent")
        stripes_meter.things["evt_1"] = report(named_by.format(named.identifier))
        error_report(THIN["id"])
        error_report_read("evt_1")
        for each in (named, other):
            each.refresh_from_db()
        assert (named.state, other.state) == ("refused", "sent")
        assert named.last_error.startswith("meter_event_customer_not_found: Customer mapping")
        detail = MeterProblem.objects.get().detail
        assert detail["summary"] == "There is 1 invalid event"
        assert detail["errors"] == [
            {
                "code": "meter_event_customer_not_found",
                "count": 1,
                "message": "Customer mapping key stripe_customer_id has no matching customer.",
                "identifiers": [named.identifier],
            }
        ]

    def test_what_it_names_may_not_be_ours(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        event(alice, state="sent")
        stripes_meter.things["evt_1"] = report("of another product", "CA" + "f" * 32)
        error_report_read("evt_1")
        assert MeterEvent.objects.get().state == "sent"
        assert MeterProblem.objects.get().detail["errors"][0]["count"] == 2

    def test_it_can_be_read_later(self, stripes_meter: WatchedStripe) -> None:
        error_report(THIN["id"])
        stripes_meter.before = lambda request: failure(503)
        with pytest.raises(PaymentsUnavailable):
            error_report_read("evt_1")
        assert MeterProblem.objects.get().resolved_at is None


class TestProblem:
    def note(self, alice: Account, stripes: int = 41) -> MeterProblem:
        problem_note(kind="difference", key="1", account_id=alice.id, detail={"stripes": stripes})
        return MeterProblem.objects.get()

    def test_it_is_told_once(self, alice: Account) -> None:
        first = self.note(alice)
        assert self.note(alice) == first

    def test_it_is_brought_up_to_date(self, alice: Account) -> None:
        found_at = self.note(alice).found_at
        problem = self.note(alice, stripes=43)
        assert (problem.detail, problem.found_at) == ({"stripes": 43}, found_at)

    def test_it_alerts(self, alice: Account, caplog: pytest.LogCaptureFixture) -> None:
        self.note(alice)
        [record] = caplog.records
        assert record.levelname == "ERROR"
        assert "meter_problem" in str(record.msg)

    def test_what_an_operator_has_resolved_stays_so(
        self, alice: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.note(alice)
        assert problem_resolve(key="1")
        caplog.clear()
        assert self.note(alice).resolved_at
        assert caplog.records == []

    def test_it_is_one_again_when_it_has_changed(self, alice: Account) -> None:
        self.note(alice)
        problem_resolve(key="1")
        assert self.note(alice, stripes=40).resolved_at is None

    def test_it_is_resolved_once(self, alice: Account) -> None:
        self.note(alice)
        assert problem_resolve(key="1", detail={"stripes": 44})
        resolved_at = MeterProblem.objects.get().resolved_at
        assert resolved_at
        assert resolved_at <= timezone.now()
        assert not problem_resolve(key="1")
        assert MeterProblem.objects.get().resolved_at == resolved_at
        assert not problem_resolve(key="2")
