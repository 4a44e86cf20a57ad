"""Whatever happens to events and to jobs, an account's status becomes what Stripe's state makes it.

Hypothesis chooses what happens at Stripe, which of its events come, when, in which order and how
often, which checks are under way at the same time, which of them are killed, and which answer comes
first.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from billing.checkout import checkout_open
from billing.customers import Snapshot, fetch
from billing.models import StatusChange, StatusCheck, StripeCustomer
from billing.status_checks import (
    Question,
    page_mark,
    question_of,
    status_apply,
    status_check,
    status_mark,
)
from billing.tests.subscribing import subscribe
from billing.tests.test_webhooks import send
from billing.tests.watched import Request, Thing, WatchedStripe, nothing
from billing.webhooks import webhook_secrets
from core.tests.poisons import IS_SHORT

STATUSES = [
    "active",
    "trialing",
    "past_due",
    "unpaid",
    "paused",
    "canceled",
    "incomplete",
    "incomplete_expired",
]
# Said again, independently of ``billing.standing``.
PAYING, OWING = STATUSES[:2], STATUSES[2:5]

_numbers = itertools.count(1)


@dataclass
class World:
    """An account, Stripe, and what is under way between them."""

    watched: WatchedStripe
    account: Account
    subscriptions: list[Thing] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[Question, Snapshot]] = field(default_factory=list)

    @property
    def customer_id(self) -> str:
        return StripeCustomer.objects.get(account=self.account).customer_id

    # What Hypothesis chooses from. ``choice`` picks one of what there is.

    def subscribe(self, choice: int) -> None:
        """In any state from the start: how it came there does not matter here."""
        id = f"sub_{next(_numbers)}"
        items = [
            {
                "id": f"si_{id}_{n}",
                "object": "subscription_item",
                "subscription": id,
                "price": price.body,
            }
            for n, price in enumerate(self.watched.all("price"))
        ]
        self.watched.things[id] = {
            "object": "subscription",
            "created": 1_700_000_000,
            "customer": self.customer_id,
            "default_payment_method": "pm_1",
            "items": {"object": "list", "data": items, "has_more": False, "url": "/v1/items"},
            "livemode": False,
            "status": STATUSES[choice % len(STATUSES)],
        }
        self.subscriptions.append(self.watched.things[id])
        self._event("customer.subscription.created", self.subscriptions[-1])

    def change(self, choice: int) -> None:
        subscription = self.subscriptions[choice % len(self.subscriptions)]
        subscription["status"] = STATUSES[choice % len(STATUSES)]
        self._event("customer.subscription.updated", subscription)

    def deliver(self, choice: int) -> None:
        """An event comes; it may come again, later and out of order."""
        assert send(self.events[choice % len(self.events)], webhook_secrets()[0]).status_code == 200

    def lose(self, choice: int) -> None:
        self.events.pop(choice % len(self.events))

    def ask(self, choice: int) -> None:
        """A worker asks Stripe; the answer is on its way."""
        if question := question_of(self.account.id):
            self.answers.append((question, fetch(question.customer_id)))

    def apply(self, choice: int) -> None:
        status_apply(*self.answers.pop(choice % len(self.answers)))

    def kill(self, choice: int) -> None:
        """The worker that was asking dies."""
        self.answers.pop(choice % len(self.answers))

    def _event(self, kind: str, subscription: Thing) -> None:
        event = {"id": f"evt_{next(_numbers)}", "object": "event", "type": kind}
        self.events.append(event | {"data": {"object": subscription.body}})

    # What must be true in the end.

    def reconcile(self) -> None:
        page_mark()
        status_check(self.account.id)

    def require_the_truth(self) -> None:
        statuses = {subscription["status"] for subscription in self.subscriptions}
        expected = (
            "ACTIVE" if statuses & {*PAYING} else "SUSPENDED" if statuses & {*OWING} else "INACTIVE"
        )
        self.account.refresh_from_db()
        assert self.account.status == expected
        changes = StatusChange.objects.filter(account=self.account).order_by("id")
        told = ["INACTIVE", *changes.values_list("after", flat=True)]
        assert told[-1] == expected
        assert all(a != b for a, b in itertools.pairwise(told))


# Those that make the others possible come more often.
STEPS = ["subscribe", *(["change", "deliver", "ask"] * 2), "lose", "apply", "kill"]


@pytest.mark.django_db
@settings(
    max_examples=20 if IS_SHORT else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 63)), min_size=8, max_size=40)
)
def test_it_always_ends_in_what_stripe_says(
    at_stripe: WatchedStripe, steps: list[tuple[str, int]]
) -> None:
    with transaction.atomic():
        account = Account.objects.create_user("hypo@example.org", "a long walk")
        checkout_open(account=account)
        world = World(at_stripe, account)
        for name, choice in steps:
            with suppress(IndexError, ZeroDivisionError):  # there is nothing to choose from
                getattr(world, name)(choice)
        world.reconcile()
        world.require_the_truth()
        while world.answers:  # of workers that were slower than all that
            world.apply(0)
        world.require_the_truth()
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_the_slower_answer_that_is_older_changes_nothing(
    carol: Account, at_stripe: WatchedStripe
) -> None:
    """Two workers on one account: the first has asked before the change, and applies after."""
    subscription = subscribe(carol, at_stripe)
    old_is_asked, new_is_applied = Event(), Event()

    def hold_back(request: Request) -> None:
        if request.path == "/v1/subscriptions" and not old_is_asked.is_set():
            old_is_asked.set()
            assert new_is_applied.wait(10)

    at_stripe.after = hold_back
    status_mark(account_id=carol.id, cause="the first event")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(_in_a_thread, carol.id)
        assert old_is_asked.wait(10)
        subscription["status"] = "past_due"
        status_mark(account_id=carol.id, cause="the second event")
        status_check(carol.id)
        new_is_applied.set()
        slow.result(10)
    carol.refresh_from_db()
    assert carol.status == "SUSPENDED"
    assert not StatusCheck.objects.unsettled().exists()


@pytest.mark.django_db(transaction=True)
def test_a_mark_that_comes_while_stripe_is_asked_is_kept(
    carol: Account, at_stripe: WatchedStripe
) -> None:
    subscription = subscribe(carol, at_stripe)

    def change_meanwhile(request: Request) -> None:
        at_stripe.after = nothing
        subscription["status"] = "unpaid"
        status_mark(account_id=carol.id, cause="an event")

    status_mark(account_id=carol.id, cause="an event before")
    at_stripe.after = change_meanwhile
    status_check(carol.id)
    assert StatusCheck.objects.unsettled().exists()
    status_check(carol.id)
    carol.refresh_from_db()
    assert carol.status == "SUSPENDED"


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_agree(carol: Account, at_stripe: WatchedStripe) -> None:
    """While Stripe's state changes again and again, and each change is told of."""
    subscription = subscribe(carol, at_stripe)
    with ThreadPoolExecutor(4) as pool:
        checks = []
        for number in range(40):
            subscription["status"] = STATUSES[number % 5]
            status_mark(account_id=carol.id, cause=f"change {number}")
            checks.append(pool.submit(_in_a_thread, carol.id))
        for check in checks:
            check.result(30)
    carol.refresh_from_db()
    assert carol.status == "SUSPENDED"  # of "paused", the last of forty changes
    assert not StatusCheck.objects.unsettled().exists()


def _in_a_thread(account_id: str) -> None:
    try:
        status_check(account_id)
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_nothing_is_held_while_stripe_answers(carol: Account, at_stripe: WatchedStripe) -> None:
    """An operator can save the account, and events can come, while a worker waits for Stripe."""
    subscribe(carol, at_stripe)

    def somebody_else(request: Request) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_save, carol.id).result(5)

    status_mark(account_id=carol.id, cause="an event")
    at_stripe.before = somebody_else
    status_check(carol.id)


def _save(account_id: str) -> None:
    try:
        Account.objects.get(pk=account_id).save()
        status_mark(account_id=account_id, cause="another event")
    finally:
        connections.close_all()
