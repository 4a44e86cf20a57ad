"""Search in an account's calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from core.keyset import Cursor, page_of
from core.tests.histories import insert_copies
from telephony.call_search import Conditions, Found, calls_found, metadata_index, search
from telephony.models import Call, MetadataValue
from telephony.services import call_accept
from telephony.tests.test_calls_api import NOW, call_of, plan_of

pytestmark = pytest.mark.django_db

CALLER = "+19805551234"


def with_metadata(account: Account, number: int, metadata: Any, **fields: Any) -> Call:
    call = call_of(account, number, metadata=metadata, **fields)
    metadata_index(call)
    return call


def ids(found: Found) -> list[str]:
    return [
        call.id for call in page_of(found.calls, size=50, before=None, after=None, by=found.by).rows
    ]


class TestSearchBox:
    @pytest.mark.parametrize(
        ("text", "condition"),
        [
            ("CA" + "0" * 32, Conditions(call_sid="CA" + "0" * 32)),
            ("c" + "0" * 24, Conditions(id="c" + "0" * 24)),
            ("+19805551234", Conditions(other_number=CALLER)),
            ("(980) 555-1234", Conditions(other_number=CALLER)),
            ("+442079460000", Conditions(other_number="+442079460000")),
            ("order-1234", Conditions(metadata="order-1234")),
            ("1234", Conditions(metadata="1234")),
            ("", Conditions()),
        ],
    )
    def test_what_a_text_means(self, text: str, condition: Conditions) -> None:
        assert search(text) == condition


class TestConditions:
    def test_the_other_partys_number(self, alice: Account) -> None:
        inbound = call_of(alice, 1, created_at=NOW)
        outbound = call_of(
            alice,
            2,
            direction="outbound",
            caller_phone="+15551234567",
            called_number=CALLER,
            created_at=NOW - timedelta(hours=1),
        )
        call_of(alice, 3, caller_phone="+12025550100")
        call_of(alice, 4, direction="outbound", caller_phone=CALLER, called_number="+12025550100")
        found = calls_found(alice, Conditions(other_number=CALLER))
        assert ids(found) == [inbound.id, outbound.id]

    def test_an_error_code(self, alice: Account) -> None:
        wanted = call_of(alice, 1, ended_reason="rejected", error_code="call_start_timeout")
        call_of(alice, 2, ended_reason="rejected")
        assert ids(calls_found(alice, Conditions(error_code="call_start_timeout"))) == [wanted.id]

    def test_a_time_includes_its_beginning_and_not_its_end(self, alice: Account) -> None:
        first = call_of(alice, 1, created_at=NOW)
        call_of(alice, 2, created_at=NOW + timedelta(hours=1))
        conditions = Conditions(since=NOW, until=NOW + timedelta(hours=1))
        assert ids(calls_found(alice, conditions)) == [first.id]

    @pytest.mark.parametrize(
        "conditions", [Conditions(id="c" + "1" * 24), Conditions(call_sid="CA1")]
    )
    def test_nothing_matches(self, alice: Account, conditions: Conditions) -> None:
        call_of(alice, 1)
        assert ids(calls_found(alice, conditions)) == []

    @pytest.mark.parametrize(
        "name", ["id", "call_sid", "number", "other_number", "metadata", "error_code"]
    )
    def test_nobody_finds_the_calls_of_another(
        self, alice: Account, bob: Account, name: str
    ) -> None:
        call = with_metadata(alice, 1, {"order": "A-1"}, error_code="tool_failed")
        values = {
            "id": call.id,
            "call_sid": call.call_sid,
            "number": call.called_number,
            "other_number": call.caller_phone,
            "metadata": "A-1",
            "error_code": "tool_failed",
        }
        conditions = Conditions(**{name: values[name]})
        assert ids(calls_found(alice, conditions)) == [call.id]
        assert ids(calls_found(bob, conditions)) == []


class TestMetadata:
    def test_a_value_at_any_depth(self, alice: Account) -> None:
        metadata = {"order": {"ids": ["A-1", 42, 1.5]}, "vip": True, "note": None}
        call = with_metadata(alice, 1, metadata)
        for value in ("A-1", "42", "1.5"):
            assert ids(calls_found(alice, Conditions(metadata=value))) == [call.id]
        for value in ("A", "a-1", "True", "true", "order", "None"):
            assert ids(calls_found(alice, Conditions(metadata=value))) == []

    def test_a_value_that_a_call_has_twice(self, alice: Account) -> None:
        call = with_metadata(alice, 1, {"a": "same", "b": ["same"]})
        assert ids(calls_found(alice, Conditions(metadata="same"))) == [call.id]

    def test_long_values_and_many_values_are_left_out(self, alice: Account) -> None:
        with_metadata(alice, 1, {"long": "x" * 201, "many": [f"v{n}" for n in range(25)]})
        values = MetadataValue.objects.values_list("value", flat=True)
        assert sorted(values) == sorted(f"v{n}" for n in range(20))

    def test_a_number_too_long_to_store(self, alice: Account) -> None:
        with_metadata(alice, 1, {"n": 10**300})
        assert not MetadataValue.objects.exists()

    def test_what_the_backend_returns_replaces_what_there_was(self, alice: Account) -> None:
        call = with_metadata(alice, 1, {"order": "old"})
        call_accept(call, metadata={"order": "new"})
        assert ids(calls_found(alice, Conditions(metadata="old"))) == []
        assert ids(calls_found(alice, Conditions(metadata="new"))) == [call.id]

    def test_pages_follow_each_other(self, alice: Account) -> None:
        calls = [
            with_metadata(alice, n, {"k": "v"}, created_at=NOW - timedelta(minutes=n // 2))
            for n in range(7)
        ]
        found = calls_found(alice, Conditions(metadata="v", direction="inbound"))
        page = page_of(found.calls, size=3, before=None, after=None, by=found.by)
        seen = [page]
        while page.after:
            after = Cursor.read(page.after)
            page = page_of(found.calls, size=3, before=None, after=after, by=found.by)
            seen.append(page)
        assert [len(each.rows) for each in seen] == [3, 3, 1]
        assert {row.id for each in seen for row in each.rows} == {call.id for call in calls}
        back = page_of(
            found.calls, size=3, before=Cursor.read(page.before), after=None, by=found.by
        )
        assert [row.id for row in back.rows] == [row.id for row in seen[1].rows]


def test_no_plan_reads_the_history(alice: Account, bob: Account) -> None:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    for place, account in enumerate((alice, bob)):
        call = Call(
            account=account,
            direction="inbound",
            status="completed",
            caller_phone=CALLER,
            called_number="+15551234567",
            ended_reason="caller_hangup",
        )
        insert_copies(
            call,
            3_000,
            call_sid="'CA' || md5(random()::text)",
            error_code="CASE WHEN n % 3 = 0 THEN '' ELSE 'tool_failed' END",
            created_at=f"timestamptz '{made}' + (n * 2 + {place}) * interval '1 minute'",
        )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO telephony_metadatavalue (account_id, call_id, created_at, value)"
            " SELECT account_id, id, created_at, 'v' FROM telephony_call;"
            "ANALYZE telephony_metadatavalue"
        )
    first = Call.objects.filter(account=alice).earliest("created_at")
    middle = Cursor(made + timedelta(minutes=3_000), "c" + "0" * 24)
    for conditions in (
        Conditions(other_number=CALLER),
        Conditions(other_number="+12025550100"),
        Conditions(error_code="tool_failed"),
        Conditions(metadata="v"),
        Conditions(metadata="w"),
        Conditions(metadata="v", until=made + timedelta(minutes=10)),
        Conditions(id=first.id),
        Conditions(call_sid=first.call_sid or ""),
    ):
        found = calls_found(alice, conditions)
        for rows in (found.calls, found.calls.filter(middle.older(found.by))):
            ordered = rows.order_by(*(f"-{name}" for name in found.by))[:51]
            with CaptureQueriesContext(connection) as queries:
                list(ordered)
            for node in plan_of(queries[0]["sql"]):
                read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                assert read * node["Actual Loops"] <= 53, (conditions, node)
