"""``GET /api/usage`` and ``GET /api/usage/current``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.test import APIClient

from accounts.models import Account
from usage.models import UsageRecord
from usage.services import usage_record_complete, usage_record_create

LONG_AGO = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def record(account: Account, number: int, **fields: Any) -> UsageRecord:
    values = {
        "account_id": account.id,
        "call_sid": f"CA{number:032x}",
        "direction": "inbound",
        "caller_phone": "+19805551234",
        "called_number": "+15551234567",
        "duration_seconds": 47,
        "twilio_cost": Decimal("0.0129"),
        "openai_cost": Decimal("0.031416"),
        "ended_at": timezone.now(),
    }
    with transaction.atomic():
        used = values | fields
        return usage_record_create(billed_seconds=used["duration_seconds"], **used)


@pytest.mark.django_db
class TestUsage:
    def get(self, api: APIClient, **query: Any) -> Any:
        response = api.get("/api/usage", query)
        assert response.status_code == 200, response.content
        return response.json()

    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        ended_at = datetime(2026, 4, 5, 9, 30, 0, 123_456, tzinfo=UTC)
        stored = record(alice, 1, ended_at=ended_at)
        assert self.get(alice_api) == {
            "records": [
                {
                    "id": stored.id,
                    "callSid": stored.call_sid,
                    "callerPhone": "+19805551234",
                    "calledNumber": "+15551234567",
                    "durationSeconds": 47,
                    "costBreakdown": {
                        "platformCost": 0.05,
                        "twilioCost": 0.0129,
                        "openaiCost": 0.031416,
                        "totalCost": 0.094316,
                    },
                    "createdAt": "2026-04-05T09:30:00.123Z",
                }
            ],
            "total": 1,
            "limit": 50,
            "offset": 0,
        }

    def test_newest_first_and_page_by_page(self, alice: Account, alice_api: APIClient) -> None:
        now = timezone.now()
        sids = [
            record(alice, number, ended_at=now - timedelta(hours=number)).call_sid
            for number in (3, 1, 2, 5, 4)
        ]
        pages = [self.get(alice_api, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        assert [entry["callSid"] for page in pages for entry in page["records"]] == sorted(sids)
        assert [len(page["records"]) for page in pages] == [2, 2, 1, 0]
        assert {page["total"] for page in pages} == {5}

    def test_the_total_is_that_of_the_records_however_many_a_call_has(
        self, alice: Account, bob: Account, alice_api: APIClient
    ) -> None:
        for account in (alice, bob):
            first = record(account, 1 if account is alice else 2, duration_seconds=10)
            record(account, 3 if account is alice else 4)
            with transaction.atomic():
                usage_record_complete(
                    account_id=account.id,
                    call_sid=first.call_sid,
                    direction="inbound",
                    caller_phone="+19805551234",
                    called_number="+15551234567",
                    duration_seconds=130,
                    billed_seconds=130,
                    twilio_cost=Decimal(0),
                    openai_cost=Decimal(0),
                    ended_at=timezone.now(),
                )
        page = self.get(alice_api)
        assert len(page["records"]) == page["total"] == 3

    def test_a_limit_over_100_is_served_as_100(self, alice_api: APIClient) -> None:
        assert self.get(alice_api, limit=1000)["limit"] == 100

    @pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"offset": -1}])
    def test_what_is_no_page_is_refused(self, alice_api: APIClient, query: dict[str, Any]) -> None:
        response = alice_api.get("/api/usage", query)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == list(query)

    def test_nobody_sees_the_calls_of_another(
        self, alice: Account, bob: Account, bob_api: APIClient
    ) -> None:
        record(alice, 1)
        own = record(bob, 2)
        page = self.get(bob_api)
        assert [entry["callSid"] for entry in page["records"]] == [own.call_sid]
        assert page["total"] == 1

    def test_it_stays_readable_without_paying(
        self, carol_api: APIClient, dave_api: APIClient
    ) -> None:
        assert self.get(carol_api)["records"] == []
        assert self.get(dave_api)["total"] == 0

    def test_it_needs_credentials(self, anonymous_api: APIClient) -> None:
        assert anonymous_api.get("/api/usage").status_code == 401
        assert anonymous_api.get("/api/usage/current").status_code == 401


@pytest.mark.django_db
class TestCurrentUsage:
    def get(self, api: APIClient) -> Any:
        response = api.get("/api/usage/current")
        assert response.status_code == 200, response.content
        return response.json()

    def test_it_works(self, alice: Account, alice_api: APIClient, settings: Settings) -> None:
        settings.PER_MINUTE_RATE = Decimal("0.05")
        settings.MONTHLY_BASE = Decimal(5)
        record(alice, 1, duration_seconds=47)
        record(alice, 2, duration_seconds=61)
        record(alice, 3, duration_seconds=600, ended_at=LONG_AGO)
        assert self.get(alice_api) == {
            "currentMonth": {"calls": 2, "minutes": 3, "estimatedCost": 0.15},
            "allTime": {"calls": 3, "minutes": 13},
            "perMinuteRate": 0.05,
            "monthlyBase": 5,
        }

    def test_the_month_begins_at_midnight_utc(self, alice: Account, alice_api: APIClient) -> None:
        first = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        record(alice, 1, ended_at=first)
        record(alice, 2, ended_at=first - timedelta(microseconds=1))
        usage = self.get(alice_api)
        assert usage["currentMonth"]["calls"] == 1
        assert usage["allTime"]["calls"] == 2

    def test_it_is_zero_before_the_first_call(
        self, alice: Account, bob_api: APIClient, carol_api: APIClient
    ) -> None:
        record(alice, 1)
        for api in (bob_api, carol_api):
            usage = self.get(api)
            assert usage["currentMonth"] == {"calls": 0, "minutes": 0, "estimatedCost": 0}
            assert usage["allTime"] == {"calls": 0, "minutes": 0}


HISTORY = 20_000


@pytest.fixture
def long_history(alice: Account, bob: Account) -> None:
    """Many calls of Alice's and Bob's, over years, and the statistics the planner goes by."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO usage_usagerecord (
                id, account_id, call_sid, direction, caller_phone, called_number,
                duration_seconds, minutes, platform_cost, twilio_cost, openai_cost, created_at
            )
            SELECT
                'c' || lpad(n::text, 24, '0'), (ARRAY[%s, %s])[1 + n %% 2],
                'CA' || lpad(n::text, 32, '0'), 'inbound', '+19805551234', '+15551234567',
                61, 2, 0.1, 0.01, 0.02, now() - n * interval '1 hour'
            FROM generate_series(1, %s) AS n
            """,
            [alice.id, bob.id, HISTORY],
        )
        cursor.execute(
            """
            INSERT INTO usage_dailyusage (account_id, day, calls, minutes)
            SELECT account_id, (created_at AT TIME ZONE 'UTC')::date, count(*), sum(minutes)
            FROM usage_usagerecord GROUP BY 1, 2
            """
        )
        cursor.execute(
            """
            INSERT INTO usage_totalusage (account_id, calls, minutes)
            SELECT account_id, count(*), sum(minutes) FROM usage_usagerecord GROUP BY 1
            """
        )
        cursor.execute("ANALYZE usage_usagerecord, usage_dailyusage, usage_totalusage")


@pytest.mark.django_db
class TestCost:
    """The rows read do not grow with the history."""

    @pytest.fixture
    def api(self, alice_api: APIClient) -> APIClient:
        alice_api.get("/api/usage")  # notes when the key was last used, once a minute
        return alice_api

    def test_the_number_of_queries_is_fixed(
        self,
        alice: Account,
        api: APIClient,
        long_history: None,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        with django_assert_num_queries(4):  # the key, a page, the total, further parts
            page = api.get("/api/usage", {"limit": 100}).json()
        assert (len(page["records"]), page["total"]) == (100, HISTORY // 2)
        with django_assert_num_queries(3):  # the key, the month, the total
            usage = api.get("/api/usage/current").json()
        assert usage["allTime"]["minutes"] == HISTORY

    @pytest.mark.parametrize(
        ("path", "most_rows", "count"), [("/api/usage", 50, 3), ("/api/usage/current", 31, 2)]
    )
    def test_no_plan_reads_the_history(
        self, api: APIClient, long_history: None, path: str, most_rows: int, count: int
    ) -> None:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(path).status_code == 200
        plans = [explain(query["sql"]) for query in queries if '"usage_' in query["sql"]]
        assert len(plans) == count
        for node in (node for plan in plans for node in nodes_of(plan)):
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            assert rows * node["Actual Loops"] <= most_rows, node


def explain(sql: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        return cursor.fetchone()[0][0]["Plan"]


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)
