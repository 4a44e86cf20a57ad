"""The audit log: each kind of act, by each kind of actor, and that it stays."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import AsyncClient, Client
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.actors import Actor, ActorKind, acting, current_actor
from accounts.audit import Action, AuditEvent, audit
from accounts.models import Account
from accounts.services import account_close, account_suspend, api_key_create
from accounts.tasks import note_failed_login, send_password_reset
from core.ids import new_id
from core.tests.web import ROOT, database_url
from operations.tests.test_accounts import form_of, page_of

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another long walk in the rain"


def events(account: Account) -> list[AuditEvent]:
    return list(AuditEvent.objects.of(account).order_by("created_at", "id"))


def last(account: Account) -> AuditEvent:
    return events(account)[-1]


def actions(account: Account) -> list[str]:
    return [event.action for event in events(account)]


def run_jobs(task: str, run: Callable[..., None]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs where task_name = %s returning args", [task])
        for (arguments,) in cursor.fetchall():
            run(**json.loads(arguments))


@pytest.fixture
def at_home(client: Client, alice: Account) -> Client:
    """Alice's browser."""
    client.force_login(alice)
    return client


@pytest.fixture
def olga(client: Client, operator: Account) -> Client:
    """The operator's browser."""
    client.force_login(operator)
    return client


class TestWho:
    def test_an_api_key(self, alice, alice_api):
        key = alice.api_keys.get()
        response = alice_api.post("/api/api-keys", {"label": "CI"}, HTTP_X_REQUEST_ID="abc-1")
        event = last(alice)
        assert (event.action, event.actor_kind) == (Action.API_KEY_CREATED, "api_key")
        assert (event.actor_id, event.actor_label) == (key.id, key.prefix)
        assert (event.network, event.request_id) == ("127.0.0.1", "abc-1")
        made = response.json()
        assert event.detail == {"id": made["id"], "prefix": made["keyPrefix"], "label": "CI"}

    def test_a_customer_with_a_session(self, at_home, alice):
        at_home.post("/dashboard/settings/company", {"company_name": "Alice & Daughters"})
        event = last(alice)
        assert (event.actor_kind, event.actor_id) == ("customer", alice.id)
        assert event.actor_label == alice.email
        assert event.detail == {"before": "Alice's Plumbing", "after": "Alice & Daughters"}

    def test_a_customer_with_a_token(self, alice, password):
        login = APIClient().post("/api/auth/login", {"email": alice.email, "password": password})
        api = APIClient(HTTP_AUTHORIZATION=f"Bearer {login.json()['token']}")
        api.post("/api/webhooks/secret/rotate")
        logged_in, rotated = events(alice)
        assert logged_in.action == Action.LOGGED_IN
        assert logged_in.detail == {"where": "API"}
        assert rotated.action == Action.WEBHOOK_SECRET_ROTATED
        assert {event.actor_kind for event in (logged_in, rotated)} == {"customer"}

    def test_an_operator(self, olga, operator, alice):
        body = {"action": "activate", "_selected_action": [alice.pk]}
        olga.post(reverse("admin:accounts_account_changelist"), body)
        event = last(alice)
        assert event.action == Action.ACTIVATED
        assert (event.actor_kind, event.actor_label) == ("operator", operator.email)

    def test_an_operator_at_their_own_dashboard_is_a_customer(self, olga, operator):
        olga.post("/dashboard/settings/company", {"company_name": "Switchhook"})
        assert last(operator).actor_kind == "customer"

    def test_an_api_key_in_an_engine(self, alice, alice_api):
        key = alice_api._credentials["HTTP_AUTHORIZATION"]
        post = async_to_sync(AsyncClient().post)
        response = post("/api/api-keys", "{}", "application/json", headers={"Authorization": key})
        assert response.status_code == 201
        event = last(alice)
        assert (event.actor_kind, event.network) == ("api_key", "127.0.0.1")

    def test_the_system_where_nothing_says_otherwise(self, alice):
        account_suspend(account=alice, reason="Calls people at night.")
        assert last(alice).actor_kind == "system"

    def test_a_visitor(self, alice, anonymous_api):
        wrong = {"email": alice.email, "password": "not the password"}
        for _ in range(3):
            anonymous_api.post("/api/auth/login", wrong, HTTP_X_REQUEST_ID="abc-2")
        run_jobs("accounts.tasks.note_failed_login", note_failed_login)
        [event] = events(alice)  # of many in an hour, one
        assert event.action == Action.LOGIN_FAILED
        assert (event.actor_kind, event.actor_id) == ("visitor", "")
        assert (event.network, event.request_id) == ("127.0.0.1", "abc-2")

    def test_nobody_stays_behind(self, at_home):
        at_home.get("/dashboard/settings")
        assert current_actor().kind == ActorKind.SYSTEM

    def test_a_failed_login_does_the_same_for_somebody_unknown(self, alice, anonymous_api):
        counts = []
        for email in (alice.email, "nobody@example.org"):
            anonymous_api.post("/api/auth/login", {"email": email, "password": "not it"})
            with connection.cursor() as cursor:
                cursor.execute("select count(*) from procrastinate_jobs")
                counts.append(cursor.fetchone()[0])
        assert counts == [1, 2]
        assert events(alice) == []


class TestWhat:
    """A person's actions, and the entries they leave in the audit log."""

    def test_registering(self, anonymous_api):
        body = {"email": "new@company.example", "password": NEW_PASSWORD}
        anonymous_api.post("/api/auth/register", body)
        account = Account.objects.get(email="new@company.example")
        assert actions(account) == [Action.REGISTERED, Action.API_KEY_CREATED]
        assert {event.actor_kind for event in events(account)} == {"customer"}

    def test_signing_up(self, client):
        body = {"email": "new@company.example", "password": NEW_PASSWORD}
        client.post("/signup", body)
        account = Account.objects.get(email="new@company.example")
        assert actions(account) == [Action.REGISTERED, Action.LOGGED_IN]

    def test_logging_in_on_the_page(self, client, alice, password):
        client.post("/login", {"email": alice.email, "password": password})
        event = last(alice)
        assert (event.action, event.actor_kind) == (Action.LOGGED_IN, "customer")
        assert event.detail == {"where": "dashboard"}

    @pytest.mark.parametrize(
        ("path", "sent", "done"),
        [
            ("settings/email", {"email": "alice@new.example"}, Action.EMAIL_CHANGED),
            ("settings/password", {"password": NEW_PASSWORD}, Action.PASSWORD_CHANGED),
            ("settings/delete", {"email": "alice@example.org"}, Action.CLOSED),
            ("keys/new", {"label": "CI"}, Action.API_KEY_CREATED),
            ("keys/secret", {}, Action.WEBHOOK_SECRET_SHOWN),
            ("keys/secret/rotate", {}, Action.WEBHOOK_SECRET_ROTATED),
            ("billing/limit", {"amount": "25"}, Action.SPENDING_LIMIT_CHANGED),
        ],
    )
    def test_pages(self, at_home, alice, password, path, sent, done):
        at_home.post(f"/dashboard/{path}", {**sent, "current_password": password})
        event = last(alice)
        assert (event.action, event.actor_kind) == (done, "customer")
        assert password not in json.dumps(event.detail)

    def test_a_new_password_by_mail(self, client, alice, mailoutbox):
        client.post("/password/reset", {"email": alice.email})
        run_jobs("accounts.tasks.send_password_reset", send_password_reset)
        [mail] = mailoutbox
        link = next(line for line in mail.body.splitlines() if "/password/reset/" in line)
        client.post(link.partition("8000")[2] or link, {"password": NEW_PASSWORD})
        asked, changed, used = events(alice)
        assert (asked.action, asked.actor_kind) == (Action.PASSWORD_RESET_ASKED, "visitor")
        assert asked.network == "127.0.0.1"
        assert (changed.action, changed.actor_kind) == (Action.PASSWORD_CHANGED, "customer")
        assert (used.action, used.actor_kind) == (Action.PASSWORD_RESET, "customer")

    def test_numbers(self, alice, alice_api):
        body = {
            "phoneNumber": "+15551234567",
            "onCallStartUrl": "https://your-backend.com/start?token=hush",
            "onCallEndUrl": "https://your-backend.com/end",
        }
        made = alice_api.post("/api/phone-numbers", body).json()["phoneNumber"]
        alice_api.post("/api/phone-numbers", body)
        alice_api.patch(f"/api/phone-numbers/{made['id']}", {"isActive": False})
        alice_api.delete(f"/api/phone-numbers/{made['id']}")
        assert actions(alice) == [
            Action.NUMBER_REGISTERED,
            Action.NUMBER_CHANGED,
            Action.NUMBER_CHANGED,
            Action.NUMBER_REMOVED,
        ]
        assert events(alice)[2].detail == {"number": "+15551234567", "changed": "is_active"}
        assert "hush" not in json.dumps([event.detail for event in events(alice)])

    def test_which_twilio_account_was_set(self, alice, alice_api):
        body = {
            "phoneNumber": "+15551234567",
            "onCallStartUrl": "https://your-backend.com/start",
            "onCallEndUrl": "https://your-backend.com/end",
        }
        made = alice_api.post("/api/phone-numbers", body).json()["phoneNumber"]
        sid = "AC" + "1" * 32
        alice_api.patch(f"/api/phone-numbers/{made['id']}", {"twilioAccountSid": sid})
        assert last(alice).action == Action.NUMBER_CONFIRMED
        assert last(alice).detail == {
            "number": "+15551234567",
            "changed": "twilio_account_sid",
            "twilioAccount": sid,
        }

    def test_what_is_refused_is_not_written_down(self, alice, bob, bob_api, alice_api):
        body = {
            "phoneNumber": "+15551234567",
            "onCallStartUrl": "https://your-backend.com/start",
            "onCallEndUrl": "https://your-backend.com/end",
        }
        bob_api.post("/api/phone-numbers", body)
        assert alice_api.post("/api/phone-numbers", body).status_code == 409
        assert events(alice) == []

    def test_a_spending_limit_that_stays_as_it_is(self, alice, alice_api):
        for limit in (None, 25, 25, None):
            alice_api.put("/api/billing/spending-limit", {"monthlyLimit": limit})
        assert [event.detail for event in events(alice)] == [
            {"before": "none", "after": "25.00 USD"},
            {"before": "25.00 USD", "after": "none"},
        ]

    def test_the_webhook_secret_is_seen_once_an_hour(self, alice, alice_api):
        for _ in range(3):
            alice_api.get("/api/webhooks/secret")
        assert actions(alice) == [Action.WEBHOOK_SECRET_SHOWN]

    def test_looking_at_the_dashboard_in_the_place_of_a_customer(self, olga, operator, alice):
        olga.post(reverse("impersonate", args=[alice.pk]))
        event = last(alice)
        assert (event.action, event.actor_kind) == (Action.VIEWED, "operator")
        assert event.actor_id == operator.id


class TestAdmin:
    @pytest.mark.parametrize(
        ("changes", "done"),
        [
            ({"email": "Alice@New.example"}, [Action.EMAIL_CHANGED]),
            ({"company_name": "Other"}, [Action.COMPANY_RENAMED]),
            ({"status": "SUSPENDED"}, [Action.STATUS_CHANGED]),
            ({"suspended_by_operator": "on"}, [Action.SUSPENDED]),
            ({"is_active": ""}, [Action.DISABLED]),
            ({"is_staff": "on"}, [Action.RIGHTS_CHANGED]),
            ({}, []),
        ],
    )
    def test_the_form(self, olga, alice, changes, done):
        body = form_of(olga, alice) | changes
        olga.post(page_of(alice), {name: value for name, value in body.items() if value})
        assert actions(alice) == done
        assert {event.actor_kind for event in events(alice)} <= {"operator"}

    def test_a_password(self, olga, alice):
        url = reverse("admin:auth_user_password_change", args=[alice.pk])
        both = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
        olga.post(url, both | {"usable_password": "true"})
        olga.post(url, {"usable_password": "false", "unset-password": "1"})
        assert actions(alice) == [Action.PASSWORD_CHANGED, Action.PASSWORD_REMOVED]

    def test_a_number_that_is_switched_off(self, olga, alice):
        number = alice.phone_numbers.create(
            phone_number="+15551234567",
            on_call_start_url="https://your-backend.com/start",
            on_call_end_url="https://your-backend.com/end",
        )
        page = reverse("admin:telephony_phonenumber_change", args=[number.pk])
        olga.post(page, {})
        event = last(alice)
        assert (event.action, event.actor_kind) == (Action.NUMBER_CHANGED, "operator")
        assert event.detail == {"number": "+15551234567", "changed": "is_active"}

    def test_an_account_that_is_removed_from_the_database_leaves_its_events(self, olga, alice):
        api_key_create(account=alice)
        id = alice.pk
        alice.delete()
        found = olga.get(reverse("admin:accounts_auditevent_changelist"), {"q": id})
        assert f"{id} (removed)" in found.content.decode()

    def test_the_list_is_found_by_the_account(self, olga, alice, bob):
        api_key_create(account=alice)
        api_key_create(account=bob)
        for term in (alice.email, alice.id):
            url = reverse("admin:accounts_auditevent_changelist")
            text = olga.get(url, {"q": term}).content.decode()
            assert "An API key was created" in text
            assert alice.email in text
            assert bob.email not in text

    def test_nothing_of_it_can_be_changed(self, olga, alice):
        api_key_create(account=alice)
        event = last(alice)
        page = reverse("admin:accounts_auditevent_change", args=[event.pk])
        assert olga.get(page).status_code == 200
        assert olga.post(page, {"action": "other"}).status_code == 403
        delete = reverse("admin:accounts_auditevent_delete", args=[event.pk])
        assert olga.post(delete, {"post": "yes"}).status_code == 403
        assert olga.get(reverse("admin:accounts_auditevent_add")).status_code == 403

    def test_who_may_not_see_it_does_not(self, client, alice):
        clerk = Account.objects.create_user("clerk@example.org", "a long walk", is_staff=True)
        may_view = Permission.objects.filter(codename="view_account")
        clerk.user_permissions.add(*may_view)
        client.force_login(clerk)
        assert client.get(reverse("admin:accounts_auditevent_changelist")).status_code == 403

    def test_an_operator_that_is_made_in_the_shell(self, monkeypatch):
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", NEW_PASSWORD)
        call_command("createsuperuser", email="new@example.org", interactive=False, verbosity=0)
        account = Account.objects.get(email="new@example.org")
        assert actions(account) == [Action.REGISTERED]


class TestAppendOnly:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE accounts_auditevent SET action = 'other'",
            "UPDATE accounts_auditevent SET actor_id = '' WHERE id = 'none such'",
            "DELETE FROM accounts_auditevent",
            "TRUNCATE accounts_auditevent",
        ],
    )
    def test_the_database_refuses_to_change_it(self, alice, statement):
        api_key_create(account=alice)
        with (
            pytest.raises(IntegrityError, match="The audit log is append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
        assert actions(alice) == [Action.API_KEY_CREATED]

    def test_it_is_written_with_what_it_tells_of_or_not_at_all(self, alice):
        with transaction.atomic():
            api_key_create(account=alice)
            transaction.set_rollback(True)
        assert events(alice) == []

    def test_closing_an_account_leaves_it(self, alice):
        api_key_create(account=alice)
        account_close(account=alice)
        assert actions(alice) == [Action.API_KEY_CREATED, Action.CLOSED]


class TestDetail:
    def test_it_is_bounded(self, alice):
        many = {f"name{number}": "x" * 1000 for number in range(20)}
        audit(account=alice, action=Action.REGISTERED, **many)
        assert len(json.dumps(last(alice).detail)) < 3000

    def test_what_looks_like_a_credential_is_masked(self, alice):
        key = api_key_create(account=alice).plain
        audit(account=alice, action=Action.API_KEY_REVOKED, label=key, password="hush")
        kept = json.dumps(last(alice).detail)
        assert key not in kept
        assert "hush" not in kept

    def test_what_postgresql_cannot_store_is_left_out(self, alice):
        audit(account=alice, action=Action.COMPANY_RENAMED, after="A\0B")
        assert last(alice).detail == {"after": "AB"}

    def test_an_action_that_is_not_known_any_more_is_shown_as_it_is(self, alice):
        assert AuditEvent(account=alice, action="old.action").sentence == "old.action"

    def test_every_action_fits(self):
        longest = AuditEvent._meta.get_field("action").max_length
        assert all(len(action) <= longest for action in Action.values)


def test_threads_and_tasks_act_for_whom_they_were_started():
    somebody = Actor(ActorKind.OPERATOR, new_id(), "olga@example.org")

    async def task() -> Actor:
        return await sync_to_async(current_actor)()

    async def both() -> list[Actor]:
        with acting(somebody):
            inside = asyncio.create_task(task())
        outside = asyncio.create_task(task())
        return [await inside, await outside]

    inside, outside = asyncio.run(both())
    assert inside == somebody
    assert outside.kind == ActorKind.SYSTEM


@pytest.mark.django_db(transaction=True)
def test_whoever_types_in_a_command(carol):
    known = {"DJANGO_SETTINGS_MODULE": "config.settings_test", "DATABASE_URL": database_url()}
    command = [sys.executable, "manage.py", "activate", carol.email]
    subprocess.run(command, cwd=ROOT, env=os.environ | known, check=True, capture_output=True)
    event = last(carol)
    assert event.action == Action.ACTIVATED
    assert (event.actor_kind, event.actor_label) == ("shell", "manage.py activate")
