from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.audit import Action, AuditEvent
from accounts.models import Account
from accounts.services import api_key_create, api_key_revoke
from billing.closing import END_TASK, UPDATE_TASK
from billing.models import StripeCustomer
from core.ids import new_id
from dashboard.tests.mails import jobs
from devtools.browsing.authenticator import code
from telephony.models import PhoneNumber, ReleasedNumber

pytestmark = pytest.mark.django_db

LIST = reverse("admin:accounts_account_changelist")
ADD = reverse("admin:accounts_account_add")


def page_of(account: Account) -> str:
    return reverse("admin:accounts_account_change", args=[account.pk])


def number_of(account: Account, number: str) -> None:
    PhoneNumber.objects.create(
        account=account,
        phone_number=number,
        on_call_start_url="https://example.org/start",
        on_call_end_url="https://example.org/end",
    )


@pytest.fixture
def olga(client, operator):
    """A browser in which the operator has logged in."""
    client.force_login(operator)
    return client


@pytest.fixture
def clerk(client, db):
    """A browser of an operator who may see and change accounts, but is no superuser."""
    account = Account.objects.create_user("clerk@example.org", "a long walk", is_staff=True)
    for name in ("view_account", "change_account", "add_account", "view_apikey"):
        account.user_permissions.add(
            Permission.objects.get(codename=name, content_type__app_label="accounts")
        )
    client.force_login(account)
    return client


class TestLogin:
    def test_it_works_with_any_case(self, client, operator, password):
        client.post(reverse("log-in"), {"email": "Olga@Example.org", "password": password})
        client.post(reverse("second-step"), {"proof-code": code()})
        assert client.get(LIST).status_code == 200

    @pytest.mark.parametrize("disable", [True, False])
    def test_customers_and_disabled_operators_stay_out(self, client, alice, password, disable):
        alice.is_staff, alice.is_active = disable, not disable
        alice.save()
        client.post(reverse("log-in"), {"email": alice.email, "password": password})
        assert client.get(LIST).status_code == 302


class TestList:
    def test_it_works(self, olga, alice, carol):
        text = olga.get(LIST).content.decode()
        for shown in ("alice@example.org", "Carol&#x27;s Cars", "ACTIVE", "INACTIVE"):
            assert shown in text

    @pytest.mark.parametrize(
        "term",
        [
            *("alice@", "Alice@Example.org", "plumbing", "{id}", "{prefix}", "cus_alice"),
            *("+12025550187", "2025550187", "(202) 555-0187", "1-202-555-0187"),
        ],
    )
    def test_the_search_finds(self, olga, alice, carol, term):
        key = api_key_create(account=alice).api_key
        StripeCustomer.objects.create(account=alice, customer_id="cus_alice")
        number_of(alice, "+12025550187")
        StripeCustomer.objects.create(account=carol, customer_id="cus_carol")
        number_of(carol, "+12025550188")
        text = olga.get(LIST, {"q": term.format(id=alice.id, prefix=key.prefix)}).content.decode()
        assert "alice@example.org" in text
        assert "carol@example.org" not in text

    def test_a_number_leads_to_the_account_that_released_it(self, olga, alice, carol):
        ReleasedNumber.objects.create(
            phone_number="+12025550187", account=alice, verified_at=timezone.now()
        )
        text = olga.get(LIST, {"q": "+12025550187"}).content.decode()
        assert "alice@example.org" in text
        assert "carol@example.org" not in text

    def test_what_is_not_there_is_not_found(self, olga, alice):
        for term in ("+12025550187", "cus_nobody", "rtk_xyz", new_id(), "nobody"):
            assert "0 accounts" in olga.get(LIST, {"q": term}).content.decode()

    @pytest.mark.parametrize(
        "filters", [{"status__exact": "ACTIVE"}, {"suspended_by_operator__exact": "0"}]
    )
    def test_the_filters_filter(self, olga, alice, carol, filters):
        carol.suspended_by_operator = True
        carol.save()
        text = olga.get(LIST, filters).content.decode()
        assert "alice@example.org" in text
        assert "carol@example.org" not in text

    def test_it_costs_the_same_with_many_accounts(self, olga, alice, django_assert_max_num_queries):
        for number in range(5):
            Account.objects.create_user(f"{number}@example.org", None)
        with django_assert_max_num_queries(7):
            olga.get(LIST)


class TestActions:
    @pytest.mark.parametrize(
        ("action", "person", "before", "after"),
        [
            ("activate", "carol", {}, "ACTIVE"),
            ("unsuspend", "alice", {"suspended_by_operator": True}, "ACTIVE"),
            ("unsuspend", "carol", {"suspended_by_operator": True}, "INACTIVE"),
            ("activate", "carol", {"suspended_by_operator": True}, "SUSPENDED"),
        ],
    )
    def test_it_works(self, olga, request, action, person, before, after):
        account = request.getfixturevalue(person)
        Account.objects.filter(pk=account.pk).update(**before)
        body = {"action": action, "_selected_action": [account.pk]}
        response = olga.post(LIST, body, follow=True)
        assert account.email in response.content.decode()
        account.refresh_from_db()
        assert account.effective_status == after
        assert LogEntry.objects.get(object_id=account.pk).change_message

    def test_others_are_left_alone(self, olga, carol, bob):
        olga.post(LIST, {"action": "activate", "_selected_action": [carol.pk]})
        bob.refresh_from_db()
        assert bob.effective_status == "ACTIVE"


class TestSuspend:
    REASON = "Calls people at night."

    def test_it_works(self, olga, alice):
        body = {"action": "suspend", "_selected_action": [alice.pk]}
        asked = olga.post(LIST, body)
        assert "Calls in progress continue." in asked.content.decode()
        alice.refresh_from_db()
        assert alice.effective_status == "ACTIVE"

        olga.post(LIST, body | {"confirmed": "yes", "reason": self.REASON})
        alice.refresh_from_db()
        assert (alice.effective_status, alice.suspension_reason) == ("SUSPENDED", self.REASON)
        assert self.REASON in LogEntry.objects.get(object_id=alice.pk).change_message

    def test_it_has_a_reason(self, olga, alice):
        body = {"action": "suspend", "_selected_action": [alice.pk], "confirmed": "yes"}
        assert "This field is required." in olga.post(LIST, body).content.decode()
        alice.refresh_from_db()
        assert alice.effective_status == "ACTIVE"

    def test_the_reason_goes_with_it(self, olga, alice):
        Account.objects.update(suspended_by_operator=True, suspension_reason=self.REASON)
        olga.post(LIST, {"action": "unsuspend", "_selected_action": [alice.pk]})
        alice.refresh_from_db()
        assert (alice.suspended_by_operator, alice.suspension_reason) == (False, "")


class TestDelete:
    def delete(self, browser, *accounts, **sent):
        body = {"action": "delete_for_good", "_selected_action": [each.pk for each in accounts]}
        return browser.post(LIST, body | sent, follow=True).content.decode()

    def test_it_works_as_for_the_owner(self, olga, alice):
        number_of(alice, "+12025550187")
        key = api_key_create(account=alice).api_key
        assert "You can&#x27;t undo this." in self.delete(olga, alice)
        alice.refresh_from_db()
        assert alice.closed_at is None

        assert "Account alice@example.org: Deleted." in self.delete(olga, alice, confirmed="yes")
        alice.refresh_from_db()
        key.refresh_from_db()
        assert alice.closed_at
        assert not alice.is_active
        assert key.revoked_at
        assert not alice.phone_numbers.exists()
        assert jobs(END_TASK) == [(END_TASK, {"account_id": alice.id})]
        event = AuditEvent.objects.of(alice).get(action=Action.CLOSED)
        assert event.actor_label == "olga@example.org"
        assert LogEntry.objects.get().get_change_message() == "Deleted the account."

    def test_one_at_a_time(self, olga, alice, carol):
        assert "Delete one account at a time." in self.delete(olga, alice, carol, confirmed="yes")
        assert not Account.objects.exclude(closed_at=None).exists()

    def test_not_twice(self, olga, alice):
        self.delete(olga, alice, confirmed="yes")
        assert "is already deleted." in self.delete(olga, alice, confirmed="yes")
        assert AuditEvent.objects.of(alice).filter(action=Action.CLOSED).count() == 1

    def test_not_an_operators(self, olga, clerk, operator):
        olga.force_login(operator)
        clerk_account = Account.objects.get(email="clerk@example.org")
        text = self.delete(olga, clerk_account, confirmed="yes")
        assert "remove its operator rights first" in text
        clerk_account.refresh_from_db()
        assert clerk_account.closed_at is None

    def test_it_takes_the_permission(self, clerk, alice):
        assert "delete_for_good" not in clerk.get(LIST).content.decode()
        self.delete(clerk, alice, confirmed="yes")
        alice.refresh_from_db()
        assert alice.closed_at is None


class TestChange:
    def test_it_works(self, olga, alice):
        body = form_of(olga, alice) | {"company_name": "Alice & Daughters"}
        assert olga.post(page_of(alice), body).status_code == 302
        alice.refresh_from_db()
        assert alice.company_name == "Alice & Daughters"

    def test_it_does_not_ask_for_each_permission(self, olga, alice, django_assert_max_num_queries):
        with django_assert_max_num_queries(20):
            assert b"Can view account" in olga.get(page_of(alice)).content

    def test_the_password_stays(self, olga, alice, password):
        olga.post(page_of(alice), form_of(olga, alice))
        alice.refresh_from_db()
        assert alice.check_password(password)

    def test_nothing_secret_is_shown(self, olga, alice):
        new = api_key_create(account=alice, label="Production")
        gone = api_key_create(account=alice, label="Old")
        api_key_revoke(account=alice, id=gone.api_key.id)
        text = olga.get(page_of(alice)).content.decode()
        assert new.api_key.prefix in text
        assert "Production" in text
        for secret in (
            new.plain,
            new.api_key.digest,
            gone.api_key.digest,
            alice.webhook_secret.secret,
            alice.password,
            *alice.password.split("$")[1:],
        ):
            assert secret not in text

    def test_keys_cannot_be_changed(self, olga, alice):
        key = api_key_create(account=alice, label="Production").api_key
        body = form_of(olga, alice) | {
            "api_keys-TOTAL_FORMS": "1",
            "api_keys-INITIAL_FORMS": "1",
            "api_keys-0-id": key.id,
            "api_keys-0-account": alice.id,
            "api_keys-0-label": "Changed",
        }
        olga.post(page_of(alice), body)
        key.refresh_from_db()
        assert key.label == "Production"

    def test_a_new_password_can_be_set(self, olga, alice):
        url = reverse("admin:auth_user_password_change", args=[alice.pk])
        assert url in olga.get(page_of(alice)).content.decode()
        body = {"password1": "another long walk", "password2": "another long walk"}
        response = olga.post(url, body | {"usable_password": "true"})
        assert response.status_code == 302
        alice.refresh_from_db()
        assert alice.check_password("another long walk")

    def test_the_address_keeps_its_lower_case(self, olga, alice):
        olga.post(page_of(alice), form_of(olga, alice) | {"email": "Alice@New.example"})
        alice.refresh_from_db()
        assert alice.email == "alice@new.example"

    @pytest.mark.parametrize(
        "change", [{"email": "alice@new.example"}, {"company_name": "Alice & Sons"}]
    )
    def test_stripe_gets_a_new_address_or_name(self, olga, alice, change):
        olga.post(page_of(alice), form_of(olga, alice) | change)
        assert jobs(UPDATE_TASK) == [(UPDATE_TASK, {"account_id": alice.id})]

    def test_stripe_is_not_asked_when_neither_changes(self, olga, alice):
        olga.post(page_of(alice), form_of(olga, alice))
        assert jobs(UPDATE_TASK) == []


class TestAdd:
    BODY = {
        "email": "New@Company.example",
        "company_name": "New",
        "status": "ACTIVE",
        "usable_password": "true",
        "password1": "a long walk in the rain",
        "password2": "a long walk in the rain",
    }

    def test_it_works(self, olga):
        assert olga.get(ADD).status_code == 200
        response = olga.post(ADD, self.BODY)
        account = Account.objects.get(email="new@company.example")
        assert response["Location"] == page_of(account)
        assert account.webhook_secret.secret.startswith("whsec_")
        body = {"email": account.email, "password": self.BODY["password1"]}
        assert APIClient().post("/api/auth/login", body).status_code == 200

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"password2": "other"}, "t match."),
            ({"password1": "short", "password2": "short"}, "too short"),
            ({"email": "ALICE@example.org"}, "already exists"),
            ({"email": "new"}, "valid email"),
        ],
    )
    def test_what_is_wrong_is_said(self, olga, alice, changes, message):
        response = olga.post(ADD, self.BODY | changes)
        assert response.status_code == 200
        assert message in response.content.decode()
        assert not Account.objects.filter(email="new@company.example").exists()


class TestClerk:
    def test_accounts_can_be_changed(self, clerk, alice):
        body = form_of(clerk, alice) | {"company_name": "Other"}
        assert clerk.post(page_of(alice), body).status_code == 302
        alice.refresh_from_db()
        assert alice.company_name == "Other"

    def test_rights_cannot_be_given(self, clerk, alice):
        body = form_of(clerk, alice) | {"is_staff": "on", "is_superuser": "on"}
        clerk.post(page_of(alice), body)
        alice.refresh_from_db()
        assert not alice.is_staff
        assert not alice.is_superuser

    def test_a_superuser_cannot_be_changed(self, clerk, operator):
        url = reverse("admin:auth_user_password_change", args=[operator.pk])
        assert clerk.get(url).status_code == 403
        body = {"action": "suspend", "_selected_action": [operator.pk]}
        body |= {"confirmed": "yes", "reason": "A test."}
        assert "change olga@" in clerk.post(LIST, body, follow=True).content.decode()
        operator.refresh_from_db()
        assert not operator.suspended_by_operator


def form_of(browser, account: Account) -> dict[str, str]:
    """Return what a browser would send if the page's form was sent as it came."""
    form = browser.get(page_of(account)).context["adminform"].form
    body = {
        name: "on" if value is True else value
        for name in form.fields
        if (value := form[name].value()) not in (None, False, [])
    }
    return body | {"api_keys-TOTAL_FORMS": "0", "api_keys-INITIAL_FORMS": "0"}
