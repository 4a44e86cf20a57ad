"""The billing pages, with the payments sandbox in Stripe's place."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Account
from billing.checkout import checkout_open
from billing.models import StatusCheck
from billing.status_checks import status_check
from billing.tests.setting_up import set_up_stripe
from dashboard.tests.pages import assert_well_made
from sandbox.payments import steering, testing
from sandbox.payments.models import Fault
from usage.models import DailyUsage, SpendingLimit
from usage.spending import spending_limit_set, spending_of

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/billing"
LIMIT = "/dashboard/billing/limit"
PAY = "/dashboard/billing/pay"
MANAGE = "/dashboard/billing/manage"
INVOICES = "/dashboard/billing/invoices"
UPCOMING = "/dashboard/billing/upcoming"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def shop(db: None) -> None:
    set_up_stripe()


@pytest.fixture
def subscriber(carol: Account) -> Account:
    """Carol, once she has paid."""
    testing.pay(checkout_open(account=carol))
    StatusCheck.objects.filter(account=carol).mark("payment")
    status_check(carol.id)
    carol.refresh_from_db()
    assert carol.status == "ACTIVE"
    return carol


def spend(account: Account, minutes: int) -> None:
    DailyUsage.objects.create(account=account, day=timezone.now().date(), calls=1, minutes=minutes)


class TestPage:
    def test_it_works(self, subscriber: Account, bob: Account, carol_web: Client) -> None:
        spend(subscriber, 47)
        spend(bob, 1_000)
        text = carol_web.get(PAGE).content.decode()
        for known in ("ACTIVE", "$5.00", "$0.05 a minute", "$2.35", "47 minutes", "on file"):
            assert known in text
        assert "<progress" not in text
        assert "Pay and activate" not in text
        assert_well_made(text)

    def test_beside_the_limit(self, alice: Account, alice_web: Client) -> None:
        spend(alice, 47)
        spending_limit_set(account=alice, amount=Decimal(10))
        text = alice_web.get(PAGE).content.decode()
        assert '<label for="spent">$2.35 of $10.00 spent this month (23%)</label>' in text
        assert '<progress id="spent" max="100" value="23">' in text
        assert "is reached" not in text
        assert_well_made(text)

    def test_at_the_limit(self, alice: Account, alice_web: Client) -> None:
        spend(alice, 47)
        spending_limit_set(account=alice, amount=Decimal(1))
        text = alice_web.get(PAGE).content.decode()
        assert "Your spending limit of $1.00 is reached" in text
        assert 'value="100"' in text

    def test_before_the_payment(self, carol_web: Client) -> None:
        text = carol_web.get(PAGE).content.decode()
        assert "Complete the checkout" in text
        assert "Pay and activate the account" in text

    def test_it_asks_stripe_nothing(
        self,
        subscriber: Account,
        carol_web: Client,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        steering.fail(Fault.Kind.BROKEN)
        with django_assert_num_queries(5):  # session, account, spending, and the mirror's two
            assert carol_web.get(PAGE).status_code == 200


class TestLimit:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        response = alice_web.post(LIMIT, {"amount": "25.50"})
        assert (response.status_code, response["Location"]) == (302, PAGE)
        assert spending_of(alice).limit == Decimal("25.50")
        assert "Spending limit set to $25.50 a month." in alice_web.get(PAGE).content.decode()
        alice_web.post(LIMIT, {"amount": ""})
        assert spending_of(alice).limit is None

    @pytest.mark.parametrize("amount", ["5", "4.99"])
    def test_one_that_stops_calls_has_to_be_confirmed(
        self, alice: Account, alice_web: Client, amount: str
    ) -> None:
        spend(alice, 100)
        response = alice_web.post(LIMIT, {"amount": amount})
        text = response.content.decode()
        assert response.status_code == 200
        assert "already spent <b>$5.00</b>" in text
        assert f'name="amount" value="{amount}"' in text
        assert "New inbound and outbound calls are rejected" in text
        assert not SpendingLimit.objects.exists()
        assert_well_made(text)

    def test_one_above_what_is_spent_has_not(self, alice: Account, alice_web: Client) -> None:
        spend(alice, 100)
        assert alice_web.post(LIMIT, {"amount": "5.01"}).status_code == 302
        assert spending_of(alice).limit == Decimal("5.01")

    def test_nor_one_while_calls_are_rejected_anyway(
        self, alice: Account, alice_web: Client
    ) -> None:
        spend(alice, 100)
        spending_limit_set(account=alice, amount=Decimal(5))
        assert alice_web.post(LIMIT, {"amount": "4"}).status_code == 302
        assert spending_of(alice).limit == 4

    def test_a_confirmation_is_no_way_around_the_bounds(
        self, alice: Account, alice_web: Client
    ) -> None:
        spend(alice, 100)
        assert alice_web.post(LIMIT, {"amount": "-1", "confirmed": "yes"}).status_code == 400
        assert alice_web.post(LIMIT, {"amount": "-1"}).status_code == 400

    def test_one_that_is_reached_is_said(self, alice: Account, alice_web: Client) -> None:
        spend(alice, 100)
        alice_web.post(LIMIT, {"amount": "5", "confirmed": "yes"})
        assert (
            "You have already reached it, so new calls are rejected."
            in alice_web.get(PAGE).content.decode()
        )

    @pytest.mark.parametrize("amount", ["0", "-1", "a lot", "1.005", "1000000.01", "NaN"])
    def test_what_is_wrong_is_said_at_the_field(self, alice_web: Client, amount: str) -> None:
        response = alice_web.post(LIMIT, {"amount": amount})
        assert response.status_code == 400
        assert "amount" in response.context["form"].errors
        assert_well_made(response.content.decode())
        assert not SpendingLimit.objects.exists()

    def test_that_of_others_stays(self, alice: Account, bob: Account, bob_web: Client) -> None:
        spending_limit_set(account=alice, amount=Decimal(5))
        bob_web.post(LIMIT, {"amount": "7"})
        assert spending_of(alice).limit == 5
        assert spending_of(bob).limit == 7


class TestStripesPages:
    def test_the_checkout(self, carol_web: Client) -> None:
        response = carol_web.post(PAY)
        assert response.status_code == 302
        assert "/sandbox/payments/checkout/cs_test_" in response["Location"]

    def test_who_has_paid_is_told(self, subscriber: Account, carol_web: Client) -> None:
        assert carol_web.post(PAY)["Location"] == PAGE
        assert "This account already has a subscription" in carol_web.get(PAGE).content.decode()

    def test_the_portal(self, subscriber: Account, carol_web: Client) -> None:
        response = carol_web.post(MANAGE)
        assert response.status_code == 302
        assert "/sandbox/payments/portal/" in response["Location"]

    @pytest.mark.parametrize("path", [PAY, MANAGE])
    def test_a_stripe_that_is_down_is_said(self, carol_web: Client, path: str) -> None:
        steering.fail(Fault.Kind.BROKEN)
        assert carol_web.post(path)["Location"] == PAGE
        assert "be reached. Try again" in carol_web.get(PAGE).content.decode()

    @pytest.mark.parametrize("path", [PAY, MANAGE])
    def test_a_link_opens_nothing(self, carol_web: Client, path: str) -> None:
        assert carol_web.get(path).status_code == 405


def cells(text: str) -> list[list[str]]:
    """Return the words of each cell in the rows of a table's body."""
    body = text.partition("<tbody>")[2]
    return [
        [words(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", markup).split())


def pays_for(web: Client) -> list[list[str]]:
    """Return what the page says that each invoice pays for, newest first."""
    text = web.get(INVOICES, headers=HTMX).content.decode()
    rows = text.partition("<tbody>")[2].split("</tr>")[:-1]
    parts = [row.split("</div>")[:-1] for row in rows]
    return [[words(part.rpartition("<div")[2].partition(">")[2]) for part in row] for row in parts]


def month_of(customer_id: str) -> str:
    """Return the current period of the customer's subscription, as the pages write it."""
    item = testing.subscription_of(customer_id)["items"]["data"][0]
    days = (datetime.fromtimestamp(item[f"current_period_{end}"], UTC) for end in ("start", "end"))
    return " to ".join(f"{day.day} {day:%b %Y}" for day in days)


class TestInvoices:
    def test_it_works(self, subscriber: Account, carol_web: Client) -> None:
        [invoice] = testing.invoices_of(testing.customers()[0]["id"])
        text = carol_web.get(INVOICES, headers=HTMX).content.decode()
        assert "<html" not in text
        for known in (invoice["number"], "$5.00", "paid", invoice["hosted_invoice_url"]):
            assert known in text
        assert_well_made(text)

    def test_each_says_what_it_pays_for(self, subscriber: Account, carol_web: Client) -> None:
        """The first one pays for the month that begins, each later one for its minutes too."""
        customer_id = testing.customers()[0]["id"]
        first = month_of(customer_id)
        assert pays_for(carol_web) == [[f"Base fee, {first}"]]
        testing.turn_to_renewal(customer_id)
        second = month_of(customer_id)
        assert pays_for(carol_web) == [
            [f"Base fee, {second}", f"0 minutes, {first}"],
            [f"Base fee, {first}"],
        ]

    def test_without_a_script_it_is_a_page(self, subscriber: Account, carol_web: Client) -> None:
        assert f'href="{INVOICES}"' in carol_web.get(PAGE).content.decode()
        text = carol_web.get(INVOICES).content.decode()
        assert "<h1>Invoices</h1>" in text
        assert "$5.00" in text
        assert_well_made(text)

    def test_those_of_others_are_not_shown(self, subscriber: Account, bob_web: Client) -> None:
        text = bob_web.get(INVOICES, headers=HTMX).content.decode()
        assert "No invoices yet" in text

    def test_a_stripe_that_is_down_is_said(self, subscriber: Account, carol_web: Client) -> None:
        steering.fail(Fault.Kind.BROKEN)
        response = carol_web.get(INVOICES, headers=HTMX)
        assert response.status_code == 200  # htmx puts nothing else into the page
        assert "be reached. Try again" in response.content.decode()


class TestUpcoming:
    def test_it_works(self, subscriber: Account, carol_web: Client) -> None:
        text = carol_web.get(UPCOMING, headers=HTMX).content.decode()
        assert '<span class="figure">$5.00</span> so far' in text
        rows = cells(text)
        now, then = month_of(testing.customers()[0]["id"]).split(" to ")
        assert rows[1][1:] == [f"{now} to {then}", "$0.00"]
        assert rows[0][0] == "Base fee"
        assert rows[0][1].startswith(f"{then} to ")
        assert_well_made(text)

    def test_without_a_subscription_there_is_none(self, carol_web: Client) -> None:
        assert "No upcoming invoice" in carol_web.get(UPCOMING, headers=HTMX).content.decode()

    def test_that_of_others_is_not_shown(self, subscriber: Account, bob_web: Client) -> None:
        assert "No upcoming invoice" in bob_web.get(UPCOMING, headers=HTMX).content.decode()

    def test_a_stripe_that_is_down_is_said(self, subscriber: Account, carol_web: Client) -> None:
        steering.fail(Fault.Kind.BROKEN)
        text = carol_web.get(UPCOMING, headers=HTMX).content.decode()
        assert "be reached. Try again" in text


@pytest.mark.parametrize("path", [PAGE, LIMIT, INVOICES, UPCOMING])
def test_strangers_log_in_first(path: str) -> None:
    assert Client().get(path)["Location"] == f"/login?next={path}"


@pytest.mark.parametrize("path", [LIMIT, PAY, MANAGE])
def test_strangers_change_nothing(path: str) -> None:
    assert Client().post(path, {"amount": "5"})["Location"] == f"/login?next={path}"
