"""The page of an account's activity, and the same by the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.actors import Actor, ActorKind, Origin, acting, shell
from accounts.audit import Action, AuditEvent, audit
from accounts.models import Account
from accounts.services import account_suspend
from core.keyset import Cursor
from core.tests.described import assert_described
from core.tests.histories import insert_copies
from dashboard import activity as activity_page
from dashboard.tests.pages import assert_well_made
from dashboard.tests.test_calls import plan_of

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings/activity"
API = "/api/audit-events"
NOW = datetime(2026, 4, 5, 9, 30, tzinfo=UTC)
OLGA = Actor(ActorKind.OPERATOR, "c" * 25, "olga@example.org", Origin("198.51.100.9", "req-olga"))


@pytest.fixture
def at_home(client: Client, alice: Account) -> Client:
    """Alice's browser, in which nothing was done yet."""
    client.force_login(alice)
    return client


def event_of(account: Account, **fields: object) -> AuditEvent:
    known = {"action": Action.API_KEY_CREATED, "actor_kind": "system", "created_at": NOW}
    return AuditEvent.objects.create(account=account, **known | fields)


def text_of(browser: Client, path: str = PAGE) -> str:
    response = browser.get(path)
    assert response.status_code == 200
    return response.content.decode()


class TestPage:
    def test_it_works(self, at_home):
        at_home.post("/dashboard/settings/company", {"company_name": "Alice & Daughters"})
        text = text_of(at_home)
        assert_well_made(text)
        for shown in (
            "The company name was changed",
            "Alice&#x27;s Plumbing → Alice &amp; Daughters",
            "alice@example.org",
            "127.0.0.1",
        ):
            assert shown in text

    @pytest.mark.parametrize(
        ("detail", "shown"),
        [
            ({"what": "totp_added"}, ">authenticator app<"),
            ({"changed": "on_call_end_url, is_active"}, ">changed: on call end url, is active<"),
            ({"twilioAccount": "AC1"}, ">Twilio account: AC1<"),
        ],
    )
    def test_names_of_programs_are_said_in_words(self, at_home, alice, detail, shown):
        event_of(alice, detail=detail)
        assert shown in text_of(at_home)

    def test_it_is_led_to(self, at_home):
        assert f'href="{PAGE}"' in text_of(at_home, "/dashboard/settings")

    def test_others_do_not_see_it(self, client, alice, bob):
        event_of(alice, detail={"label": "Alice only"})
        client.force_login(bob)
        assert "Alice only" not in text_of(client)

    def test_who_is_not_logged_in_goes_to_the_login(self, client):
        assert client.get(PAGE)["Location"].startswith("/login")

    @pytest.mark.parametrize("who", [OLGA, shell("activate")])
    def test_of_support_it_says_no_more(self, at_home, alice, who):
        with acting(who):
            account_suspend(account=alice, reason="Calls people at night.")
        text = text_of(at_home)
        assert "The account was suspended" in text
        assert "Switchhook support" in text
        for hidden in ("olga", "198.51.100.9", "manage.py", "at night"):
            assert hidden not in text

    def test_it_is_paged(self, at_home, alice, monkeypatch):
        monkeypatch.setattr(activity_page, "PAGE_SIZE", 2)
        for number in range(5):
            moment = NOW + timedelta(days=1000, minutes=number)
            event_of(alice, created_at=moment, detail={"label": f"key {number}"})
        first = at_home.get(PAGE)
        second = at_home.get(first.context["older"])
        back = at_home.get(second.context["newer"])
        assert labels(first) == labels(back) == ["key 4", "key 3"]
        assert labels(second) == ["key 2", "key 1"]
        assert first.context["newer"] == back.context["newer"] == ""

    @pytest.mark.parametrize("place", ["nonsense", "9" * 40, "1-c", "-1-x"])
    def test_a_place_that_no_page_gave_out_is_the_first(self, at_home, alice, place):
        response = at_home.get(PAGE, {"after": place})
        assert response.status_code == 200
        assert len(response.context["rows"]) == 1  # the login

    def test_it_costs_the_same_with_a_long_history(
        self, at_home, alice, django_assert_max_num_queries
    ):
        for number in range(60):
            event_of(alice, created_at=NOW + timedelta(minutes=number))
        with django_assert_max_num_queries(4):
            at_home.get(PAGE)


def history(*accounts: Account) -> None:
    """Give each a history that is far longer than a page."""
    for account in accounts:
        event = AuditEvent(account=account, action=Action.LOGGED_IN, actor_kind="customer")
        insert_copies(event, 1_500, created_at=f"timestamptz '{NOW}' + n * interval '1 minute'")


@pytest.mark.parametrize(
    "path",
    [
        PAGE,
        f"{PAGE}?after={{middle}}",
        f"{PAGE}?before={{middle}}",
        "/admin/accounts/auditevent/",
        "/admin/accounts/auditevent/?q={account}",
    ],
)
def test_no_plan_reads_the_history(client: Client, operator: Account, path: str) -> None:
    client.force_login(operator)
    others = [Account.objects.create_user(f"{number}@example.org") for number in range(8)]
    history(operator, *others)
    middle = Cursor(NOW + timedelta(minutes=750), "c" + "0" * 24)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path.format(middle=middle, account=operator.pk)).status_code == 200
    ordered = [each["sql"] for each in queries if 'ORDER BY "accounts_auditevent"' in each["sql"]]
    assert ordered
    for sql in ordered:
        for node in plan_of(sql):
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            assert rows <= 102, (node, sql)  # the admin shows a hundred


class TestApi:
    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        alice_api.post("/api/api-keys", {"label": "CI"}, HTTP_X_REQUEST_ID="abc-1")
        body = alice_api.get(API).json()
        assert_described(body, "listAuditEvents", 200)
        [event] = body["auditEvents"]
        default, made = alice.api_keys.order_by("created_at")
        del event["id"], event["createdAt"]
        assert event == {
            "action": "api_key.created",
            "description": "An API key was created",
            "actor": "api_key",
            "actorName": f"API key {default.prefix}…",
            "apiKeyId": default.id,
            "network": "127.0.0.1",
            "requestId": "abc-1",
            "detail": {"id": made.id, "prefix": made.prefix, "label": "CI"},
        }

    def test_of_support_it_says_no_more(self, alice, alice_api):
        with acting(OLGA):
            audit(account=alice, action=Action.VIEWED)
        body = alice_api.get(API).json()
        assert_described(body, "listAuditEvents", 200)
        [event] = body["auditEvents"]
        assert (event["actor"], event["actorName"]) == ("support", "Switchhook support")
        assert (event["apiKeyId"], event["network"], event["requestId"]) == (None, None, None)

    def test_others_get_none_of_it(self, alice, bob_api):
        event_of(alice)
        assert bob_api.get(API).json()["auditEvents"] == []

    def test_it_is_paged(self, alice, alice_api):
        for number in range(3):
            event_of(alice, created_at=NOW + timedelta(minutes=number), detail={"number": number})
        body = alice_api.get(API, {"limit": 1, "offset": 1}).json()
        assert [event["detail"] for event in body["auditEvents"]] == [{"number": 1}]
        assert body["hasMore"] is True

    def test_it_takes_credentials(self, anonymous_api):
        assert anonymous_api.get(API).status_code == 401


def labels(response: object) -> list[str]:
    return [row["event"].detail["label"] for row in response.context["rows"]]  # type: ignore[attr-defined]
