"""``/api/calls``"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import Account
from core.keyset import Cursor
from core.schema import document
from core.tests.histories import insert_copies
from telephony.call_search import metadata_index
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Failure, Result
from telephony.models import Call, CallbackDelivery
from telephony.services import call_accept, call_connect, call_end, call_note

NOW = datetime(2026, 4, 5, 9, 30, tzinfo=UTC)
SECRET = b"what was said"


def call_of(account: Account, number: int = 1, **fields: Any) -> Call:
    values = {
        "call_sid": f"CA{number:032x}",
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.RINGING,
        "caller_phone": "+19805551234",
        "called_number": "+15551234567",
        "on_call_start_url": "https://your-backend.com/calls/start",
        "on_call_end_url": "https://your-backend.com/calls/end",
    }
    return Call.objects.create(account=account, **values | fields)


NOT_MEASURED = {"firstAudioMs": None, "turnP50Ms": None, "turnP95Ms": None}


def ended_call_of(account: Account, number: int = 1) -> Call:
    """A call that lived its whole life in 61 seconds."""
    call = call_of(account, number, created_at=NOW, metadata={"customerId": "cust_123"})
    call_accept(call, metadata=call.metadata)
    call_connect(call, now=NOW + timedelta(seconds=2))
    Call.objects.filter(pk=call.pk).update(billed_from=NOW + timedelta(seconds=2))
    call_end(
        call_id=call.id,
        status=Call.Status.COMPLETED,
        reason="caller_hangup",
        ended_at=NOW + timedelta(seconds=63),
    )
    call.refresh_from_db()
    return call


@pytest.mark.django_db
class TestList:
    def get(self, api: APIClient, **query: Any) -> Any:
        response = api.get("/api/calls", query)
        assert response.status_code == 200, response.content
        return response.json()

    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice, created_at=NOW)
        assert self.get(alice_api) == {
            "calls": [
                {
                    "id": call.id,
                    "callSid": call.call_sid,
                    "direction": "inbound",
                    "status": "ringing",
                    "callerPhone": "+19805551234",
                    "calledNumber": "+15551234567",
                    "answeredBy": None,
                    "endedReason": None,
                    "outcome": "in-progress",
                    "errorCode": None,
                    "metadata": None,
                    "createdAt": "2026-04-05T09:30:00.000Z",
                    "answeredAt": None,
                    "endedAt": None,
                    "durationSeconds": 0,
                    "latency": NOT_MEASURED,
                }
            ],
            "limit": 50,
            "offset": 0,
            "hasMore": False,
            "nextCursor": None,
        }

    def test_newest_first_and_page_by_page(self, alice: Account, alice_api: APIClient) -> None:
        calls = {
            number: call_of(alice, number, created_at=NOW - timedelta(minutes=number))
            for number in (3, 1, 2, 5, 4)
        }
        pages = [self.get(alice_api, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        shown = [call["id"] for page in pages for call in page["calls"]]
        assert shown == [calls[number].id for number in (1, 2, 3, 4, 5)]
        assert [page["hasMore"] for page in pages] == [True, True, False, False]

    def test_a_full_last_page_has_no_more(self, alice: Account, alice_api: APIClient) -> None:
        call_of(alice, 1)
        call_of(alice, 2)
        page = self.get(alice_api, limit=2)
        assert (len(page["calls"]), page["hasMore"]) == (2, False)

    def test_calls_in_progress(self, alice: Account, alice_api: APIClient) -> None:
        live = call_of(alice, 1)
        ended = call_of(alice, 2, ended_at=NOW)
        assert [call["id"] for call in self.get(alice_api, live="true")["calls"]] == [live.id]
        assert [call["id"] for call in self.get(alice_api, live="false")["calls"]] == [ended.id]

    def test_those_since_a_moment(self, alice: Account, alice_api: APIClient) -> None:
        call_of(alice, 1, created_at=NOW - timedelta(seconds=1))
        late = call_of(alice, 2, created_at=NOW)
        for since in ("2026-04-05T09:30:00.000Z", "2026-04-05T09:30:00"):
            assert [call["id"] for call in self.get(alice_api, since=since)["calls"]] == [late.id]

    def test_those_since_any_moment(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice)
        assert self.get(alice_api, since="9999-12-31T00:00:00Z")["calls"] == []
        ancient = self.get(alice_api, since="0001-01-02T00:00:00Z")["calls"]
        assert [each["id"] for each in ancient] == [call.id]

    def test_page_by_page_with_cursors(self, alice: Account, alice_api: APIClient) -> None:
        calls = [call_of(alice, n, created_at=NOW - timedelta(minutes=n)) for n in range(5)]
        page = self.get(alice_api, limit=2)
        shown = page["calls"]
        call_of(alice, 9, created_at=NOW + timedelta(minutes=1))  # shifts nothing
        while page["nextCursor"]:
            page = self.get(alice_api, limit=2, cursor=page["nextCursor"])
            shown += page["calls"]
        assert [call["id"] for call in shown] == [call.id for call in calls]
        assert not page["hasMore"]

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({"until": NOW.isoformat()}, "failed"),
            ({"direction": "outbound"}, "outbound"),
            ({"outcome": "failed"}, "failed"),
            ({"errorCode": "call_start_timeout"}, "failed"),
            ({"phoneNumber": "+15551234567"}, "outbound failed"),
            ({"otherPhone": "+12025550100"}, "outbound"),
            ({"otherPhone": " 12025550100"}, "outbound"),  # a plus sign that is not encoded
            ({"metadata": "A-1"}, "outbound"),
            ({"callSid": f"CA{1:032x}"}, "failed"),
            ({"outcome": "failed", "direction": "outbound"}, ""),
        ],
    )
    def test_filters(
        self, alice: Account, alice_api: APIClient, query: dict[str, str], names: str
    ) -> None:
        calls = {
            "failed": call_of(
                alice,
                1,
                created_at=NOW - timedelta(minutes=1),
                ended_reason="rejected",
                error_code="call_start_timeout",
            ),
            "outbound": call_of(
                alice,
                2,
                created_at=NOW,
                direction="outbound",
                caller_phone="+15551234567",
                called_number="+12025550100",
                metadata={"order": "A-1"},
            ),
        }
        metadata_index(calls["outbound"])
        found = [call["id"] for call in self.get(alice_api, **query)["calls"]]
        assert found == [calls[name].id for name in names.split()]

    @pytest.mark.parametrize(
        "cursor", ["", "1-c", "x", f"1-c{24 * '0'}0", f"1{16 * '0'}-c{24 * '0'}"]
    )
    def test_cursors_that_are_refused_are_not_as_described(
        self, alice: Account, alice_api: APIClient, cursor: str
    ) -> None:
        parameters = document()["paths"]["/api/calls"]["get"]["parameters"]
        (described,) = [each["schema"] for each in parameters if each["name"] == "cursor"]
        assert re.search(described["pattern"], str(Cursor.of(call_of(alice))))
        assert not re.search(described["pattern"], cursor)
        assert alice_api.get("/api/calls", {"cursor": cursor}).status_code == 400

    def test_a_cursor_and_an_offset_do_not_go_together(
        self, alice: Account, alice_api: APIClient
    ) -> None:
        cursor = str(Cursor.of(call_of(alice)))
        response = alice_api.get("/api/calls", {"cursor": cursor, "offset": 5})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["offset"]

    @pytest.mark.parametrize(
        "query",
        [
            {"limit": 0},
            {"offset": "x"},
            {"since": "yesterday"},
            {"until": "tomorrow"},
            {"live": "perhaps"},
            {"cursor": "x"},
            {"outcome": "great"},
            {"direction": "sideways"},
            {"metadata": "x" * 201},
        ],
    )
    def test_what_cannot_be_asked_is_refused(
        self, alice_api: APIClient, query: dict[str, Any]
    ) -> None:
        response = alice_api.get("/api/calls", query)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == list(query)

    def test_nobody_sees_the_calls_of_another(
        self, alice: Account, bob_api: APIClient, dave_api: APIClient, anonymous_api: APIClient
    ) -> None:
        call_of(alice)
        assert self.get(bob_api)["calls"] == []
        assert self.get(dave_api)["calls"] == []
        assert anonymous_api.get("/api/calls").status_code == 401

    def test_the_number_of_queries_is_fixed(
        self,
        alice: Account,
        alice_api: APIClient,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        alice_api.get("/api/calls")
        for number in range(5):
            call_of(alice, number)
        with django_assert_num_queries(2):  # the key, a page
            assert len(self.get(alice_api)["calls"]) == 5

    def test_no_plan_reads_the_history(
        self, alice: Account, bob: Account, alice_api: APIClient
    ) -> None:
        make_history([alice, bob], 4_000)
        call_of(alice, 4_001)
        alice_api.get("/api/calls")
        for query in ({}, {"live": "true"}, {"since": "2020-01-01T00:00:00Z"}):
            with CaptureQueriesContext(connection) as queries:
                assert self.get(alice_api, **query)["calls"]
            [sql] = [query["sql"] for query in queries if 'FROM "telephony_call"' in query["sql"]]
            for node in plan_of(sql):
                rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                assert rows * node["Actual Loops"] <= 51, node


def make_history(accounts: list[Account], count: int) -> None:
    for account in accounts:
        insert_copies(
            Call(account=account, direction=Call.Direction.INBOUND, status=Call.Status.COMPLETED),
            count // len(accounts),
            call_sid="'CA' || md5(random()::text)",
            created_at=f"timestamptz '{NOW}' - n * interval '1 minute'",
            ended_at=f"timestamptz '{NOW}' - (n - 1) * interval '1 minute'",
        )


def plan_of(sql: str) -> Iterator[dict[str, Any]]:
    """Run a query, and yield the nodes of its plan."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        nodes = [cursor.fetchone()[0][0]["Plan"]]
    while nodes:
        node = nodes.pop()
        yield node
        nodes += node.get("Plans", [])


@pytest.mark.django_db
class TestOne:
    def get(self, api: APIClient, reference: str | None) -> Any:
        response = api.get(f"/api/calls/{reference}")
        assert response.status_code == 200, response.content
        return response.json()["call"]

    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        call = ended_call_of(alice)
        delivery = CallbackDelivery.objects.get(call=call)
        shown = self.get(alice_api, call.id)
        timeline = shown.pop("timeline")
        assert {
            "at": "2026-04-05T09:31:03.000Z",
            "kind": "ended",
            "detail": {"reason": "caller_hangup"},
        } in timeline
        [callback] = shown.pop("callbacks")
        assert callback.pop("createdAt")
        assert callback == {
            "id": delivery.id,
            "kind": "onCallEnd",
            "state": "pending",
            "attempts": 0,
            "lastResult": None,
        }
        assert shown.pop("failedRequests") == []
        costs = shown.pop("costBreakdown")
        assert list(costs) == ["platformCost", "twilioCost", "openaiCost", "totalCost"]
        assert costs["platformCost"] == 0.1
        assert shown == {
            "id": call.id,
            "callSid": call.call_sid,
            "direction": "inbound",
            "status": "completed",
            "callerPhone": "+19805551234",
            "calledNumber": "+15551234567",
            "answeredBy": None,
            "endedReason": "caller_hangup",
            "outcome": "completed",
            "errorCode": None,
            "metadata": {"customerId": "cust_123"},
            "createdAt": "2026-04-05T09:30:00.000Z",
            "answeredAt": "2026-04-05T09:30:02.000Z",
            "endedAt": "2026-04-05T09:31:03.000Z",
            "durationSeconds": 61,
            "latency": NOT_MEASURED,
        }

    def test_failed_requests_come_with_the_response(
        self, alice: Account, alice_api: APIClient
    ) -> None:
        call = call_of(alice)
        result = Result("500", at=NOW, duration_ms=84, answer="It is down.")
        late = Result("timeout", at=NOW + timedelta(seconds=9), duration_ms=30_000)
        url = "https://your-backend.com/calls/tool?key=secret"
        failures = [
            Failure("onToolCall", url, late, "look_up_order"),
            Failure("onCallStart", "https://your-backend.com/calls/start", result),
        ]
        attempts.keep_failed(call.id, call.account_id, failures)
        assert self.get(alice_api, call.id)["failedRequests"] == [
            {
                "kind": "onCallStart",
                "tool": None,
                "url": "https://your-backend.com/calls/start",
                "at": "2026-04-05T09:30:00.000Z",
                "durationMs": 84,
                "result": "500",
                "answer": "It is down.",
            },
            {
                "kind": "onToolCall",
                "tool": "look_up_order",
                "url": "https://your-backend.com/calls/tool?…",
                "at": "2026-04-05T09:30:09.000Z",
                "durationMs": 30_000,
                "result": "timeout",
                "answer": "",
            },
        ]

    def test_the_call_sid_identifies_it_too(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice)
        assert self.get(alice_api, call.call_sid)["id"] == call.id

    def test_a_call_in_progress_has_no_costs(self, alice: Account, alice_api: APIClient) -> None:
        assert self.get(alice_api, call_of(alice).id)["costBreakdown"] is None
        assert self.get(alice_api, call_of(alice, 2, call_sid=None).id)["costBreakdown"] is None

    def test_the_timeline_is_in_order(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice)
        for second in (2, 0, 1):
            call_note(call, f"event-{second}", at=NOW + timedelta(seconds=second))
        kinds = [event["kind"] for event in self.get(alice_api, call.id)["timeline"]]
        assert kinds == ["event-0", "event-1", "event-2"]

    def test_another_account_gets_404(
        self, alice: Account, bob_api: APIClient, anonymous_api: APIClient
    ) -> None:
        call = call_of(alice)
        for reference in (call.id, call.call_sid):
            assert bob_api.get(f"/api/calls/{reference}").status_code == 404
            assert anonymous_api.get(f"/api/calls/{reference}").status_code == 401

    @pytest.mark.parametrize(
        "reference", ["c" + "0" * 24, "CA" + "0" * 32, "CA1", "1", "%00", "x" * 300]
    )
    def test_an_unknown_call_is_404(self, alice_api: APIClient, reference: str) -> None:
        response = alice_api.get(f"/api/calls/{reference}")
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"

    def test_it_stays_readable_without_paying(self, carol: Account, carol_api: APIClient) -> None:
        assert self.get(carol_api, call_of(carol).id)

    def test_the_number_of_queries_is_fixed(
        self,
        alice: Account,
        alice_api: APIClient,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        call = ended_call_of(alice)
        self.get(alice_api, call.id)
        for number in range(5):
            call_note(call, f"event-{number}")
            CallbackDelivery.objects.create(
                account=alice, call=call, kind=CallbackDelivery.Kind.ERROR, sealed_body=SECRET
            )
            attempts.keep_failed(call.id, alice.id, [Failure("onToolCall", "", Result("500"))])
        # The key, the call, its events, packed ones, its callbacks, its failed requests, its usage.
        with django_assert_num_queries(7), CaptureQueriesContext(connection) as queries:
            shown = self.get(alice_api, call.id)
        assert len(shown["callbacks"]) == 6
        assert not any("sealed_body" in query["sql"] for query in queries)


@pytest.mark.django_db
class TestHangUp:
    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice)
        response = alice_api.post(f"/api/calls/{call.id}/hangup")
        assert response.status_code == 202
        assert response.json()["call"]["id"] == call.id
        assert response.json()["call"]["timeline"][-1]["kind"] == "hangup_requested"
        call.refresh_from_db()
        assert call.hangup_requested_at
        assert call.ended_at is None

    def test_repeating_it_changes_nothing(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice)
        requested_at = []
        for _ in range(2):
            assert alice_api.post(f"/api/calls/{call.call_sid}/hangup").status_code == 202
            requested_at.append(Call.objects.get().hangup_requested_at)
        assert requested_at[0] == requested_at[1]
        assert call.events.filter(kind="hangup_requested").count() == 1

    def test_an_ended_call_is_409(self, alice: Account, alice_api: APIClient) -> None:
        call = ended_call_of(alice)
        response = alice_api.post(f"/api/calls/{call.id}/hangup")
        assert response.status_code == 409
        assert response.json()["code"] == "call_already_ended"
        call.refresh_from_db()
        assert call.hangup_requested_at is None

    def test_another_account_gets_404(self, alice: Account, bob_api: APIClient) -> None:
        call = call_of(alice)
        for reference in (call.id, call.call_sid):
            assert bob_api.post(f"/api/calls/{reference}/hangup").status_code == 404
        call.refresh_from_db()
        assert call.hangup_requested_at is None

    def test_only_active_accounts_may(
        self, anonymous_api: APIClient, carol: Account, carol_api: APIClient, dave_api: APIClient
    ) -> None:
        path = f"/api/calls/{call_of(carol).id}/hangup"
        statuses = [api.post(path).status_code for api in (anonymous_api, carol_api, dave_api)]
        assert statuses == [401, 402, 403]
