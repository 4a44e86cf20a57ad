"""The pages of calls."""

from __future__ import annotations

import csv
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from unicodedata import normalize
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import Account
from core.keyset import Cursor
from core.money import dollars
from core.tests.histories import insert_copies
from dashboard import call_export
from dashboard import calls as calls_pages
from dashboard.call_export import safe
from dashboard.call_filters import OUTCOMES
from dashboard.tests.pages import assert_well_made
from telephony.call_search import metadata_index
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Failure, Result
from telephony.engine.codes import OutcomeGroup
from telephony.models import Call, CallbackDelivery, CallbackEndpoint, PhoneNumber
from telephony.services import call_accept, call_connect, call_end, call_note
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db

PATH = "/dashboard/calls"
NOW = datetime(2026, 4, 5, 9, 30, tzinfo=UTC)
NUMBER, OTHER_NUMBER, PERSON = "+15551234567", "+15557654321", "+19805551234"
HTMX = {"HX-Request": "true"}

_sids = iter(range(1, 10_000_000))


def call_of(account: Account, **fields: Any) -> Call:
    return Call.objects.create(account=account, **_values(**fields))


def _values(**fields: Any) -> dict[str, Any]:
    """An inbound call that ended well, unless the fields say otherwise."""
    values = {
        "call_sid": f"CA{next(_sids):032x}",
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.COMPLETED,
        "ended_reason": "caller_hangup",
        "caller_phone": PERSON,
        "called_number": NUMBER,
        "created_at": NOW,
        "ended_at": NOW + timedelta(minutes=1),
        "duration_seconds": 60,
    }
    return values | fields


LIVE = {
    "ended_at": None,
    "ended_reason": "",
    "duration_seconds": 0,
    "status": Call.Status.IN_PROGRESS,
}


def ended_call_of(account: Account) -> Call:
    """A call that went through all of its life in 61 seconds."""
    call = call_of(account, **LIVE)
    call_accept(call, onCallStartMs=84)
    call_connect(call, now=NOW + timedelta(seconds=2))
    Call.objects.filter(pk=call.pk).update(billed_from=NOW + timedelta(seconds=2))
    for kind, detail in (
        ("model_ready", {"model": "gpt-realtime-1.5", "ms": 310}),
        ("caller_spoke", {"ms": 1900}),
        ("agent_spoke", {"latencyMs": 640}),
        ("interrupted", {"heardMs": 1200}),
        ("tool_called", {"tool": "look_up_order"}),
        ("tool_failed", {"tool": "look_up_order", "ms": 1500, "message": "It is down."}),
        ("something_new", {"colour": "green"}),
    ):
        call_note(call, kind, at=NOW + timedelta(seconds=3), **detail)
    call_end(
        call_id=call.id,
        status=Call.Status.COMPLETED,
        reason="caller_hangup",
        ended_at=NOW + timedelta(seconds=63),
    )
    call.refresh_from_db()
    return call


def delivery_of(call: Call, **fields: Any) -> CallbackDelivery:
    values = {
        "kind": CallbackDelivery.Kind.ERROR,
        "url": "https://your-backend.com/calls/error",
        "sealed_body": b"what was said",
        "attempts": 1,
        "last_result": "503",
        "due_at": timezone.now() + timedelta(hours=1),
    }
    delivery = CallbackDelivery.objects.create(
        account_id=call.account_id, call=call, **values | fields
    )
    result = Result("503", at=NOW, duration_ms=84, answer="<b>Down</b>")
    attempts.keep_all([(delivery, result)])
    return delivery


def make_history(accounts: list[Account], count: int, **fields: Any) -> None:
    """Calls a minute apart, the accounts taking turns."""
    among = len(accounts)
    for place, account in enumerate(accounts):
        insert_copies(
            Call(account=account, **_values(**fields)),
            count // among,
            call_sid="'CA' || md5(random()::text)",
            created_at=f"timestamptz '{NOW}' - (n * {among} + {place}) * interval '1 minute'",
        )


def get(web: Client, **query: Any) -> Any:
    response = web.get(PATH, query)
    assert response.status_code == 200, response.content
    return response


def shown(web: Client, **query: Any) -> list[str]:
    return [row["call"].id for row in get(web, **query).context["rows"]]


class TestList:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        ended = ended_call_of(alice)
        call_of(alice, created_at=NOW - timedelta(hours=1), ended_reason="model_error")
        call_of(alice, created_at=NOW + timedelta(hours=1), **LIVE)
        response = get(alice_web)
        text = response.content.decode()
        assert_well_made(text)
        assert f'href="{PATH}/{ended.id}"' in text
        for words in (PERSON, NUMBER, "Caller hung up", "Model error", "In progress", "1 min 01 s"):
            assert words in text
        [row] = [row for row in response.context["rows"] if row["call"].id == ended.id]
        assert row["cost"] == dollars(UsageRecord.objects.get().total_cost)
        assert [row["tone"] for row in response.context["rows"]] == ["note", "good", "bad"]
        assert "no-store" in response["Cache-Control"]

    def test_a_failed_call_is_told_from_a_rejected_one(
        self, alice: Account, alice_web: Client
    ) -> None:
        call_of(alice, ended_reason="rejected")
        call_of(alice, ended_reason="rejected", error_code="call_start_bad_status")
        call_of(alice, ended_reason="caller_hangup", error_code="tool_failed")
        rows = {row["call"].error_code: row for row in get(alice_web).context["rows"]}
        assert {code: (row["label"], row["tone"]) for code, row in rows.items()} == {
            "": ("Rejected", ""),
            "call_start_bad_status": ("Failed", "bad"),
            "tool_failed": ("Caller hung up", "good"),
        }
        text = get(alice_web).content.decode()
        assert '<code class="is-bad">call_start_bad_status</code>' in text
        assert '<code class="is-amber">tool_failed</code>' in text

    def test_no_call_yet(self, alice_web: Client) -> None:
        text = get(alice_web).content.decode()
        assert_well_made(text)
        assert "No calls yet" in text
        assert 'href="/dashboard/numbers"' in text

    def test_nothing_matches(self, alice: Account, alice_web: Client) -> None:
        call_of(alice)
        text = get(alice_web, outcome="failed").content.decode()
        assert "No calls match these filters" in text
        assert f'<a href="{PATH}">Clear filters</a>' in text

    def test_nobody_sees_the_calls_of_another(self, alice: Account, bob_web: Client) -> None:
        call_of(alice)
        assert shown(bob_web) == shown(bob_web, number=NUMBER) == []

    def test_only_who_is_logged_in(self) -> None:
        for path in (PATH, f"{PATH}.csv"):
            assert Client().get(path)["Location"] == f"/login?next={path}"

    def test_markup_in_a_number_is_text(self, alice: Account, alice_web: Client) -> None:
        call_of(alice, caller_phone="<script>alert(1)</script>")
        assert "<script>alert" not in get(alice_web).content.decode()

    def test_the_badge_of_an_unknown_reason(self, alice: Account, alice_web: Client) -> None:
        call_of(alice, ended_reason="brand_new")
        assert "Brand new" in get(alice_web).content.decode()


class TestFilters:
    @pytest.fixture
    def calls(self, alice: Account) -> dict[str, str]:
        """Ids by what is special about a call, the newest first."""
        outbound = {
            "direction": Call.Direction.OUTBOUND,
            "caller_phone": NUMBER,
            "called_number": PERSON,
        }
        special: dict[str, dict[str, Any]] = {
            "plain": {},
            "live": LIVE,
            "outbound": outbound,
            "busy": outbound | {"ended_reason": "busy", "status": Call.Status.BUSY},
            "rejected": {"ended_reason": "rejected", "status": Call.Status.REJECTED},
            "broken": {"ended_reason": "rejected", "error_code": "call_start_timeout"},
            "lost": {"ended_reason": "engine_lost", "error_code": "engine_lost"},
            "other": {"called_number": OTHER_NUMBER},
            "ours": {"called_number": OTHER_NUMBER, "caller_phone": NUMBER},
            "old": {"created_at": NOW - timedelta(days=2)},
        }
        return {
            name: call_of(alice, **{"created_at": NOW - timedelta(seconds=number)} | fields).id
            for number, (name, fields) in enumerate(special.items())
        }

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({}, "plain live outbound busy rejected broken lost other ours old"),
            ({"number": NUMBER}, "plain live outbound busy rejected broken lost old"),
            ({"number": "1 (555) 765-4321"}, "other ours"),
            ({"number": "anonymous"}, ""),
            ({"direction": "outbound"}, "outbound busy"),
            ({"outcome": "in-progress"}, "live"),
            ({"outcome": "completed"}, "plain outbound other ours old"),
            ({"outcome": "unanswered"}, "busy"),
            ({"outcome": "rejected"}, "rejected"),
            ({"outcome": "failed"}, "broken lost"),
            ({"since": "2026-04-05"}, "plain live outbound busy rejected broken lost other ours"),
            ({"until": "2026-04-04"}, "old"),
            ({"since": "2026-04-03", "until": "2026-04-03"}, "old"),
            ({"number": NUMBER, "direction": "inbound", "outcome": "completed"}, "plain old"),
        ],
    )
    def test_each_of_them(
        self, calls: dict[str, str], alice_web: Client, query: dict[str, str], names: str
    ) -> None:
        assert shown(alice_web, **query) == [calls[name] for name in names.split()]

    @pytest.mark.parametrize("text", ["+1 (202) 555-0100", "A-1", f"CA{7:032x}"])
    def test_the_search_box(self, alice: Account, alice_web: Client, text: str) -> None:
        wanted = call_of(
            alice,
            call_sid=f"CA{7:032x}",
            caller_phone="+12025550100",
            metadata={"order": "A-1"},
        )
        metadata_index(wanted)
        call_of(alice, ended_reason="engine_lost", error_code="engine_lost")
        assert shown(alice_web, q=text) == [wanted.id]
        assert shown(alice_web, q=wanted.id) == [wanted.id]
        assert shown(alice_web, q=text, outcome="failed") == []

    def test_an_error_code(self, alice: Account, alice_web: Client) -> None:
        call_of(alice)
        lost = call_of(alice, ended_reason="engine_lost", error_code="engine_lost")
        assert shown(alice_web, code="engine_lost") == [lost.id]

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"direction": "sideways"}, "Select a valid choice"),
            ({"outcome": "great"}, "Select a valid choice"),
            ({"since": "yesterday"}, "Enter a valid date"),
            (
                {"since": "2026-04-05", "until": "2026-04-04"},
                "Choose an end date on or after the start date.",
            ),
            ({"since": "0001-01-01"}, "Use a day from 2000-01-01 to 2100-12-31."),
            ({"until": "9999-12-31"}, "Use a day from 2000-01-01 to 2100-12-31."),
            ({"number": "+1555\n1234567"}, "Use one line"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, alice: Account, alice_web: Client, query: dict[str, str], message: str
    ) -> None:
        call_of(alice)
        response = alice_web.get(PATH, query)
        assert response.status_code == 400
        assert message in response.content.decode()
        assert alice_web.get(PATH, query, headers=HTMX).status_code == 200, "htmx shows a 200 only"
        assert alice_web.get(f"{PATH}.csv", query).status_code == 302

    def test_the_form_keeps_them(self, alice: Account, alice_web: Client) -> None:
        PhoneNumber.objects.create(account=alice, phone_number=NUMBER)
        query = {"number": NUMBER, "direction": "inbound", "since": "2026-04-01"}
        text = get(alice_web, **query).content.decode()
        assert f'<option value="{NUMBER}">' in text
        assert f'value="{NUMBER}"' in text
        assert '<option value="inbound" selected>' in text
        assert 'value="2026-04-01"' in text

    def test_the_lists_of_numbers_are_ones_own(
        self, alice: Account, bob: Account, alice_web: Client
    ) -> None:
        PhoneNumber.objects.create(account=bob, phone_number=NUMBER)
        assert NUMBER not in get(alice_web).content.decode()

    def test_htmx_gets_the_table_alone(self, alice: Account, alice_web: Client) -> None:
        call_of(alice)
        query = {"number": "", "direction": "inbound", "outcome": "", "since": "", "until": ""}
        response = alice_web.get(PATH, query, headers=HTMX)
        assert "<html" not in response.content.decode()
        assert "<table" in response.content.decode()
        assert response["HX-Push-Url"] == f"{PATH}?direction=inbound"
        assert "HX-Request" in response["Vary"]

    def test_htmx_gets_the_page_when_it_goes_back(self, alice_web: Client) -> None:
        headers = HTMX | {"HX-History-Restore-Request": "true"}
        assert "<html" in alice_web.get(PATH, headers=headers).content.decode()


class TestPages:
    def walk(self, web: Client, link: str, **query: Any) -> list[list[str]]:
        """Follow the link from page to page; return the ids on each."""
        pages, response = [], web.get(PATH, query)
        while True:
            pages.append([row["call"].id for row in response.context["rows"]])
            self.last = response
            if not response.context[link]:
                return pages
            response = web.get(response.context[link])

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calls_pages, "PAGE_SIZE", 10)

    def test_it_works(self, alice: Account, bob: Account, alice_web: Client) -> None:
        """No call is left out, and none comes twice, however many share a moment."""
        make_history([alice, bob], 30)
        for _ in range(23):
            call_of(alice, created_at=NOW)
        for _ in range(5):
            call_of(alice, created_at=NOW + timedelta(microseconds=1))
        expected = list(
            Call.objects.of(alice).order_by("-created_at", "-id").values_list("id", flat=True)
        )
        there = self.walk(alice_web, "older")
        assert [len(page) for page in there] == [10, 10, 10, 10, 3]
        assert [id for page in there for id in page] == expected
        back = self.walk_back()
        assert back == there[-2::-1]
        assert not self.last.context["newer"]

    def walk_back(self) -> list[list[str]]:
        return self.walk(self.last.client, "newer", **_query_of(self.last.context["newer"]))

    def test_filters_stay(self, alice: Account, alice_web: Client) -> None:
        make_history([alice], 25)
        make_history([alice], 25, ended_reason="failed")
        pages = self.walk(alice_web, "older", outcome="failed", since="2026-01-01")
        assert [len(page) for page in pages] == [10, 10, 5]
        assert "outcome=failed&since=2026-01-01" in self.last.context["newer"]

    def test_calls_that_come_meanwhile_shift_nothing(
        self, alice: Account, alice_web: Client
    ) -> None:
        make_history([alice], 20)
        first = alice_web.get(PATH)
        call_of(alice, created_at=NOW + timedelta(minutes=1))
        second = alice_web.get(first.context["older"])
        ids = [row["call"].id for page in (first, second) for row in page.context["rows"]]
        assert len(set(ids)) == 20

    def test_a_full_last_page_has_no_more(self, alice: Account, alice_web: Client) -> None:
        make_history([alice], 10)
        assert self.walk(alice_web, "older") == self.walk(alice_web, "newer")

    @pytest.mark.parametrize(
        "cursor", ["x", "-", "1-x", "9" * 17 + "-c" + "0" * 24, "\u0661-c" + "0" * 24]
    )
    def test_a_cursor_of_nobody_shows_the_first_page(
        self, alice: Account, alice_web: Client, cursor: str
    ) -> None:
        call_of(alice)
        for name in ("before", "after"):
            assert len(alice_web.get(PATH, {name: cursor}).context["rows"]) == 1

    def test_behind_the_last_one(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice)
        response = alice_web.get(PATH, {"after": str(Cursor.of(call))})
        assert "Go to the newest calls" in response.content.decode()

    def test_a_cursor_is_exact(self) -> None:
        cursor = Cursor(NOW + timedelta(microseconds=123_456), "c" + "0" * 24)
        assert Cursor.read(str(cursor)) == cursor

    def test_the_number_of_queries_is_fixed(
        self, alice: Account, alice_web: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        make_history([alice], 30)
        last = alice_web.get(PATH).context["older"]
        # The session, the account, a page, its usage, the account's numbers.
        with django_assert_num_queries(5):
            alice_web.get(PATH, {"outcome": "completed", "number": NUMBER})
        with django_assert_num_queries(4):
            alice_web.get(last, headers=HTMX)

    QUERIES = [
        {},
        {"number": OTHER_NUMBER},
        {"direction": "outbound"},
        {"outcome": "failed"},
        {"outcome": "in-progress"},
        {"since": "2026-03-01", "until": "2026-04-05"},
        {"number": NUMBER, "outcome": "completed", "direction": "inbound"},
    ]

    def test_no_plan_reads_the_history(
        self, alice: Account, bob: Account, alice_web: Client
    ) -> None:
        make_history([alice, bob], 6_000)
        long_ago = NOW - timedelta(days=2)
        call_of(alice, called_number=OTHER_NUMBER, created_at=long_ago)
        call_of(alice, direction="outbound", ended_reason="failed", created_at=long_ago)
        call_of(alice, **LIVE | {"created_at": long_ago})
        middle = str(Cursor(NOW - timedelta(minutes=3_000), "c" + "0" * 24))
        for query in self.QUERIES:
            for place in ({}, {"after": middle}, {"before": middle}):
                with CaptureQueriesContext(connection) as queries:
                    alice_web.get(PATH, query | place)
                [sql] = [each["sql"] for each in queries if 'FROM "telephony_call"' in each["sql"]]
                for node in plan_of(sql):
                    rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                    # One more than is shown, and a few of the cursor's moment: how many depends on
                    # the plan. The history has thousands.
                    assert rows * node["Actual Loops"] <= calls_pages.PAGE_SIZE + 5, (node, sql)


def _query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def plan_of(sql: str) -> Iterator[dict[str, Any]]:
    """Run a query, and yield the nodes of its plan."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        nodes = [cursor.fetchone()[0][0]["Plan"]]
    while nodes:
        node = nodes.pop()
        yield node
        nodes += node.get("Plans", [])


class TestExport:
    def rows(self, web: Client, **query: Any) -> list[dict[str, str]]:
        response = web.get(f"{PATH}.csv", query)
        assert response.status_code == 200
        return list(csv.DictReader(self.text(response).splitlines()))

    def text(self, response: Any) -> str:
        return b"".join(response.streaming_content).decode()

    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        call = ended_call_of(alice)
        response = alice_web.get(f"{PATH}.csv")
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        name = f"calls-{timezone.now():%Y-%m-%d}.csv"
        assert response["Content-Disposition"] == f'attachment; filename="{name}"'
        [row] = csv.DictReader(self.text(response).splitlines())
        costs = UsageRecord.objects.get().cost_breakdown
        assert row == {
            "id": call.id,
            "callSid": call.call_sid,
            "createdAt": "2026-04-05T09:30:00.000Z",
            "endedAt": "2026-04-05T09:31:03.000Z",
            "direction": "inbound",
            "callerPhone": PERSON,
            "calledNumber": NUMBER,
            "status": "completed",
            "outcome": "completed",
            "endedReason": "caller_hangup",
            "errorCode": "",
            "durationSeconds": "61",
            "platformCost": str(costs["platformCost"]),
            "twilioCostEstimate": str(costs["twilioCost"]),
            "openaiCostEstimate": str(costs["openaiCost"]),
            "totalCost": str(costs["totalCost"]),
            "firstAudioMs": "",
            "turnP50Ms": "640",
            "turnP95Ms": "640",
        }

    def test_what_the_filters_select(self, alice: Account, bob: Account, alice_web: Client) -> None:
        call_of(bob, ended_reason="failed")
        call_of(alice)
        wanted = call_of(alice, ended_reason="failed")
        assert [row["id"] for row in self.rows(alice_web, outcome="failed")] == [wanted.id]

    def test_no_call_is_a_header(self, alice_web: Client) -> None:
        assert self.text(alice_web.get(f"{PATH}.csv")).splitlines() == [
            ",".join(call_export.HEADER)
        ]

    @pytest.mark.parametrize(
        ("cell", "written"),
        [
            ("+19805551234", "+19805551234"),
            ("+1+1", "'+1+1"),
            ("+", "'+"),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("-1", "'-1"),
            ("@SUM(1)", "'@SUM(1)"),
            ("\t=1", "'\t=1"),
            ("\tx", "'\tx"),
            ("\r\n-1", "'\r\n-1"),
            (" =1", "' =1"),
            ("\u00a0\u3000=1", "'\u00a0\u3000=1"),
            ("\ufeff\u200b\x00=1", "'\ufeff\u200b\x00=1"),
            ("\uff1d1+1", "'\uff1d1+1"),
            ("\uff0b19805551234", "'\uff0b19805551234"),
            ("\uff0d1", "'\uff0d1"),
            ("\uff20SUM(1)", "'\uff20SUM(1)"),
            (" \uff1d1", "' \uff1d1"),
            ("\u22121", "'\u22121"),
            ("+\u0661", "'+\u0661"),
            ("+19805551234\n", "'+19805551234\n"),
            ("x;=1", "x;'=1"),
            ("x\t=1\n=2", "x\t'=1\n'=2"),
            ('x;"=1', "x;'\"=1"),
            ("sip:+15551234567@example.org;user=phone", "sip:+15551234567@example.org;user=phone"),
            (" ", " "),
            ("A=1", "A=1"),
            ("sip:alice@example.org", "sip:alice@example.org"),
            (0.05, "0.05"),
            (None, ""),
        ],
    )
    def test_no_cell_is_a_formula(self, cell: Any, written: str) -> None:
        assert safe(cell) == written

    def test_no_other_form_of_its_first_character_is_left(self) -> None:
        """Unicode says what a spreadsheet may take for one of them."""
        every = map(chr, {*range(sys.maxunicode + 1)} - {*range(0xD800, 0xE000)})
        alike = [each for each in every if normalize("NFKC", each)[:1] in {*"=+-@\N{MINUS SIGN}"}]
        assert len(alike) > 15
        assert [each for each in alike if safe(f"{each}1") != f"'{each}1"] == ["+"]

    def test_a_caller_cannot_put_a_formula_in(self, alice: Account, alice_web: Client) -> None:
        call_of(alice, caller_phone='=cmd|"/C calc"!A1')
        [row] = self.rows(alice_web)
        assert row["callerPhone"] == '\'=cmd|"/C calc"!A1'

    def test_it_streams(
        self, alice: Account, alice_web: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A batch is asked for when the one before it was sent."""
        monkeypatch.setattr(call_export, "BATCH", 10)
        make_history([alice], 35)
        response = alice_web.get(f"{PATH}.csv")
        assert response.streaming
        with CaptureQueriesContext(connection) as queries:
            pieces, asked = [], []
            for piece in response.streaming_content:
                pieces.append(piece.count(b"\n"))
                asked.append(len(queries))
        assert pieces == [1, 10, 10, 10, 5]
        assert asked == [0, 2, 4, 6, 8]

    def test_its_memory_does_not_grow_with_the_calls(
        self, alice: Account, alice_web: Client, settings: Settings
    ) -> None:
        make_history([alice], 6_000)
        settings.DEBUG = False  # which keeps all queries
        peaks = []
        tracemalloc.start()
        try:
            for piece in alice_web.get(f"{PATH}.csv").streaming_content:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
                del piece
        finally:
            tracemalloc.stop()
        assert len(peaks) == 7
        assert max(peaks[4:]) < 1.3 * max(peaks[1:3])


class TestOne:
    def get(self, web: Client, id: str, **query: Any) -> str:
        response = web.get(f"{PATH}/{id}", query)
        assert response.status_code == 200
        return str(response.content.decode())

    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        call = ended_call_of(alice)
        delivery = delivery_of(call)
        text = self.get(alice_web, call.id)
        assert_well_made(text)
        for words in (
            call.call_sid,
            "onCallStart took 84 ms",
            "640 ms after the caller spoke",
            "for 1.9 s",
            "the caller heard 1.2 s of the response",
            "look_up_order",
            "after 1.5 s",
            "It is down.",
            "Something new",
            "colour: green",
            "Twilio (estimate)",
            "OpenAI (estimate)",
            "onCallEnd",
            "onError",
            "&lt;b&gt;Down&lt;/b&gt;",
            "84 ms",
            "Send now",
        ):
            assert words in text, words
        assert f'action="/dashboard/deliveries/{delivery.id}/resend"' in text
        assert "Hang up now" not in text
        assert "what was said" not in text
        assert "http-equiv" not in text

    def test_a_call_that_is_on(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, **LIVE)
        text = self.get(alice_web, call.id)
        assert_well_made(text)
        assert "Hang up now" in text
        assert f'action="{PATH}/{call.id}/hangup"' in text
        assert f'hx-get="{PATH}/{call.id}"' in text
        assert "We send onCallEnd when the call ends." in text

    def test_htmx_follows_it_to_its_end(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, **LIVE)
        part = alice_web.get(f"{PATH}/{call.id}", headers=HTMX).content.decode()
        assert "<html" not in part
        assert 'hx-trigger="every 2s"' in part
        assert "Hang up now" in part
        call_end(call_id=call.id, status=Call.Status.COMPLETED, reason="caller_hangup")
        part = alice_web.get(f"{PATH}/{call.id}", headers=HTMX).content.decode()
        assert "Caller hung up" in part
        assert "Hang up now" not in part
        assert 'hx-trigger="every 2s"' in self.get(alice_web, call.id), "callbacks are on their way"
        Call.objects.update(ended_at=NOW)
        assert "hx-trigger" not in self.get(alice_web, call.id)
        delivery_of(call, due_at=timezone.now())
        assert 'hx-trigger="every 2s"' in self.get(alice_web, call.id), "one is being sent"

    def test_a_very_long_call(
        self, alice: Account, alice_web: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(calls_pages, "MOST_EVENTS", 3)
        call = call_of(alice)
        for second in range(5):
            call_note(call, f"event_{second}", at=NOW + timedelta(seconds=second))
        text = self.get(alice_web, call.id)
        assert "The latest 3 events." in text
        assert "Event 1" not in text
        assert text.index("Event 2") < text.index("Event 4")

    def test_one_that_is_held_back(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(call_of(alice), due_at=NOW, last_result="endpoint_failing")
        delivery.held_by = CallbackEndpoint.objects.create(
            account=alice, origin="https://down.example:443", failures=7, probe_at=timezone.now()
        )
        delivery.save()
        text = self.get(alice_web, delivery.call_id)
        assert_well_made(text)
        assert "On hold" in text
        assert "https://down.example:443 failed to respond 7 times in a row" in text
        assert "Send now" in text

    def test_what_was_delivered_cannot_be_sent_again(
        self, alice: Account, alice_web: Client
    ) -> None:
        delivery_of(call_of(alice), state="delivered", sealed_body=None)
        text = self.get(alice_web, Call.objects.get().id)
        assert "Send now" not in text
        assert "send it again" in text

    def test_another_account_gets_404(self, alice: Account, bob_web: Client) -> None:
        call = call_of(alice)
        assert bob_web.get(f"{PATH}/{call.id}").status_code == 404
        assert bob_web.get(f"{PATH}/{call.id}", headers=HTMX).status_code == 404
        for id in ("c" + "0" * 24, "1", "x" * 300):
            assert bob_web.get(f"{PATH}/{id}").status_code == 404

    def test_only_who_is_logged_in(self, alice: Account) -> None:
        path = f"{PATH}/{call_of(alice).id}"
        assert Client().get(path)["Location"] == f"/login?next={path}"

    def test_the_number_of_queries_is_fixed(
        self, alice: Account, alice_web: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        call = ended_call_of(alice)
        for number in range(5):
            call_note(call, f"event_{number}")
            delivery_of(call)
            failure = Failure("onToolCall", "", Result("500", answer="It is down."), "book")
            attempts.keep_failed(call.id, alice.id, [failure])
        # The session, the account, the call, its usage, events, packed events, callbacks, their
        # attempts, and failed requests.
        with django_assert_num_queries(9), CaptureQueriesContext(connection) as queries:
            self.get(alice_web, call.id)
        assert not any("sealed_body" in query["sql"] for query in queries)


class TestHangUp:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, **LIVE)
        response = alice_web.post(f"{PATH}/{call.id}/hangup", follow=True)
        assert response.redirect_chain == [(f"{PATH}/{call.id}", 302)]
        text = response.content.decode()
        assert "The call ends within seconds" in text
        assert "A hang-up was requested" in text
        call.refresh_from_db()
        assert call.hangup_requested_at

    def test_an_ended_call(self, alice: Account, alice_web: Client) -> None:
        path = f"{PATH}/{call_of(alice).id}/hangup"
        assert "has already ended" in alice_web.post(path, follow=True).content.decode()

    def test_only_active_accounts_may(self, dave: Account, dave_web: Client) -> None:
        call = call_of(dave, **LIVE)
        assert "Hang up now" not in dave_web.get(f"{PATH}/{call.id}").content.decode()
        response = dave_web.post(f"{PATH}/{call.id}/hangup", follow=True)
        assert "is suspended" in response.content.decode()
        call.refresh_from_db()
        assert call.hangup_requested_at is None

    def test_another_account_gets_404(self, alice: Account, bob_web: Client) -> None:
        call = call_of(alice, **LIVE)
        assert bob_web.post(f"{PATH}/{call.id}/hangup").status_code == 404
        call.refresh_from_db()
        assert call.hangup_requested_at is None

    def test_only_who_is_logged_in_and_not_by_a_link(
        self, alice: Account, alice_web: Client
    ) -> None:
        path = f"{PATH}/{call_of(alice, **LIVE).id}/hangup"
        assert Client().post(path)["Location"] == f"/login?next={path}"
        assert alice_web.get(path).status_code == 405


class TestResend:
    def post(self, web: Client, delivery: CallbackDelivery) -> Any:
        return web.post(f"/dashboard/deliveries/{delivery.id}/resend", follow=True)

    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        delivery = delivery_of(call_of(alice))
        response = self.post(alice_web, delivery)
        assert response.redirect_chain == [(f"{PATH}/{delivery.call_id}#callbacks", 302)]
        assert "Sending onError now." in response.content.decode()
        assert CallbackDelivery.objects.ready().get() == delivery

    @pytest.mark.parametrize("state", ["delivered", "given-up"])
    def test_what_was_erased(self, alice: Account, alice_web: Client, state: str) -> None:
        delivery = delivery_of(call_of(alice), state=state, sealed_body=None)
        assert "Its content was erased then" in self.post(alice_web, delivery).content.decode()

    def test_only_active_accounts_may(self, carol: Account, carol_web: Client) -> None:
        response = self.post(carol_web, delivery_of(call_of(carol)))
        assert "Complete the checkout" in response.content.decode()
        assert not CallbackDelivery.objects.ready().exists()

    def test_another_account_gets_404(self, alice: Account, bob_web: Client) -> None:
        assert self.post(bob_web, delivery_of(call_of(alice))).status_code == 404
        assert not CallbackDelivery.objects.ready().exists()

    def test_only_who_is_logged_in_and_not_by_a_link(
        self, alice: Account, alice_web: Client
    ) -> None:
        path = f"/dashboard/deliveries/{delivery_of(call_of(alice)).id}/resend"
        assert Client().post(path)["Location"] == f"/login?next={path}"
        assert alice_web.get(path).status_code == 405


def test_every_outcome_can_be_looked_for() -> None:
    assert set(OUTCOMES) == {"in-progress", *get_args(OutcomeGroup)}
