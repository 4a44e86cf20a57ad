"""Operators' rights over accounts in the admin, by operator and by account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import Account
from operations.tests.test_accounts import page_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:accounts_account_changelist")
PASSWORD = "another long walk in the rain"
FORM = {
    "status": "ACTIVE",
    "is_active": "on",
    "api_keys-TOTAL_FORMS": "0",
    "api_keys-INITIAL_FORMS": "0",
}


def person(email: str, rights: str = "", **fields: Any) -> Account:
    """Make somebody; ``rights`` of operators: "" or the verbs that they may do to everything."""
    account = Account.objects.create_user(email, PASSWORD, status="ACTIVE", **fields)
    with connection.cursor() as cursor:  # hundreds of permissions, as objects, would take longer
        for verb in rights.split():
            cursor.execute(
                "INSERT INTO accounts_account_user_permissions (account_id, permission_id)"
                " SELECT %s, id FROM auth_permission WHERE starts_with(codename, %s)",
                [account.pk, f"{verb}_"],
            )
    return account


@pytest.fixture
def people() -> dict[str, Account]:
    """The actor and the target. The clerk has every permission, and is no superuser."""
    return {
        "superuser": person("super@example.org", is_staff=True, is_superuser=True),
        "clerk": person("clerk@example.org", "view add change delete", is_staff=True),
        "reader": person("reader@example.org", "view", is_staff=True),
        "a customer": person("customer@example.org"),
        "an operator": person("other@example.org", "view", is_staff=True),
        "a former operator": person("former@example.org", is_staff=True, is_active=False),
        "a superuser": person("boss@example.org", is_superuser=True, is_staff=True),
        # Rights without the way in: whoever gave it that would have them.
        "a dormant superuser": person("dormant@example.org", is_superuser=True),
    }


Act = Callable[[Client, Account], Any]


def _change(**changes: str) -> Act:
    def act(browser: Client, account: Account) -> Any:
        body = FORM | {"email": account.email} | changes
        return browser.post(page_of(account), {k: v for k, v in body.items() if v})

    return act


def _password(**sent: str) -> Act:
    def act(browser: Client, account: Account) -> Any:
        return browser.post(reverse("admin:auth_user_password_change", args=[account.pk]), sent)

    return act


def _action(name: str, **sent: str) -> Act:
    def act(browser: Client, account: Account) -> Any:
        body = {"action": name, "_selected_action": [account.pk], **sent}
        return browser.post(LIST, body, follow=True)

    return act


# What may be done to a customer's account by whoever may change it.
ACTS: dict[str, Act] = {
    "another address": _change(email="taken-over@example.org"),
    "another name": _change(company_name="Other"),
    "disabled": _change(is_active=""),
    "suspended in the form": _change(suspended_by_operator="on"),
    "another password": _password(
        usable_password="true",
        password1="a long walk of the clerk's",
        password2="a long walk of the clerk's",
    ),
    "no password": _password(**{"usable_password": "false", "unset-password": "1"}),
    "suspended": _action("suspend", confirmed="yes", reason="A test."),
    "deleted": _action("delete_for_good", confirmed="yes"),
}
TARGETS = ["a customer", "an operator", "a former operator", "a superuser", "a dormant superuser"]


def state(account: Account) -> dict[str, Any] | None:
    """Return everything about an account's row and rights; None if it is gone."""
    row = Account.objects.filter(pk=account.pk).values().first()
    if row is None:
        return None
    rights = [account.groups.values_list("pk"), account.user_permissions.values_list("pk")]
    return row | {"last_login": None, "rights": [sorted(each) for each in rights]}


def is_touched(browser: Client, account: Account, act: Act) -> bool:
    before = state(account)
    response = act(browser, account)
    assert response.status_code in (200, 302, 403)
    return state(account) != before


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("act", ACTS)
def test_superusers_may_do_it_to_everybody(client, people, target, act):
    """Only deleting operators takes a step before it: they lose their rights first."""
    client.force_login(people["superuser"])
    is_refused = act == "deleted" and people[target].is_staff
    assert is_touched(client, people[target], ACTS[act]) is not is_refused


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("act", ACTS)
def test_clerks_may_do_it_to_customers_alone(client, people, target, act):
    client.force_login(people["clerk"])
    assert is_touched(client, people[target], ACTS[act]) is (target == "a customer")


@pytest.mark.parametrize("act", ACTS)
def test_clerks_may_not_do_it_to_themselves(client, people, act):
    client.force_login(people["clerk"])
    assert not is_touched(client, people["clerk"], ACTS[act])


@pytest.mark.parametrize("target", ["a customer", "an operator", "reader"])
@pytest.mark.parametrize("act", ACTS)
def test_readers_may_do_it_to_nobody(client, people, target, act):
    client.force_login(people["reader"])
    assert not is_touched(client, people[target], ACTS[act])


def give_all_rights(browser: Client, account: Account) -> Any:
    may_change = Permission.objects.filter(codename="change_account")
    body = FORM | {"email": account.email, "is_staff": "on", "is_superuser": "on"}
    body["groups"] = str(Group.objects.create(name="All").pk)
    return browser.post(page_of(account), body | {"user_permissions": [p.pk for p in may_change]})


@pytest.mark.parametrize("target", TARGETS)
def test_superusers_give_rights(client, people, target):
    client.force_login(people["superuser"])
    assert is_touched(client, people[target], give_all_rights)


@pytest.mark.parametrize("who", ["clerk", "reader"])
@pytest.mark.parametrize("target", [*TARGETS, "clerk", "reader"])
def test_nobody_else_does(client, people, who, target):
    client.force_login(people[who])
    assert not is_touched(client, people[target], give_all_rights)


@pytest.mark.parametrize(("who", "status"), [("superuser", 200), ("clerk", 403), ("reader", 403)])
def test_only_superusers_see_to_groups(client, people, who, status):
    client.force_login(people[who])
    group = Group.objects.create(name="Clerks")
    pages = [
        reverse("admin:auth_group_changelist"),
        reverse("admin:auth_group_add"),
        reverse("admin:auth_group_change", args=[group.pk]),
        reverse("admin:auth_group_delete", args=[group.pk]),
    ]
    assert [client.get(page).status_code for page in pages] == [status] * len(pages)


@pytest.mark.parametrize(("who", "status"), [("superuser", 200), ("clerk", 403), ("reader", 403)])
def test_only_superusers_see_what_operators_have_done(client, people, who, status):
    client.force_login(people[who])
    assert client.get(reverse("admin:admin_logentry_changelist")).status_code == status


@pytest.mark.parametrize(
    ("who", "target", "status"),
    [
        ("superuser", "a customer", 302),
        ("superuser", "an operator", 302),
        ("superuser", "a superuser", 404),
        ("clerk", "a customer", 302),
        ("clerk", "an operator", 403),
        ("clerk", "a superuser", 404),
        ("reader", "a customer", 403),
        ("reader", "an operator", 403),
    ],
)
def test_whose_dashboard_they_look_at(client, people, who, target, status):
    client.force_login(people[who])
    url = reverse("impersonate", args=[people[target].pk])
    assert client.post(url).status_code == status


def test_a_customer_who_becomes_an_operator_is_looked_at_no_longer(client, people):
    client.force_login(people["clerk"])
    client.post(reverse("impersonate", args=[people["a customer"].pk]))
    assert "customer@example.org" in client.get("/dashboard/settings").content.decode()
    Account.objects.filter(email="customer@example.org").update(is_staff=True)
    assert "customer@example.org" not in client.get("/dashboard/settings").content.decode()


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_deletes_the_row_of_an_account(client, people, target):
    """It would take its records along, and bypass what ends its calls and its subscription."""
    client.force_login(people["superuser"])
    path = reverse("admin:accounts_account_delete", args=[people[target].pk])
    assert client.post(path, {"post": "yes"}).status_code == 403
    assert not is_touched(client, people[target], _action("delete_selected", post="yes"))


def test_no_list_deletes_rows_in_bulk(client, people):
    client.force_login(people["superuser"])
    for model in admin.site._registry:
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert "delete_selected" not in client.get(path).content.decode()


def test_operators_change_their_own_password_by_knowing_it(client, people):
    client.force_login(people["clerk"])
    new = "an even longer walk"
    body = {"new_password1": new, "new_password2": new}
    url = reverse("admin:password_change")
    assert client.post(url, body | {"old_password": "not it"}).status_code == 200
    assert client.post(url, body | {"old_password": PASSWORD}).status_code == 302
    people["clerk"].refresh_from_db()
    assert people["clerk"].check_password(new)
