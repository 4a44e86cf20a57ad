"""Events as Stripe sends them: signed by Stripe's own rules, in any order, more than once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client
from stripe import WebhookSignature

from accounts.models import Account
from billing.models import MeterProblem, PlanPart, StatusChange, StatusCheck, StripeCustomer
from billing.webhooks import EVENTS, METER_EVENT
from core.sealing import seal

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_jobs")]

SECRET = "whsec_0123456789abcdef"
PATH = "/webhooks/stripe"


@pytest.fixture(autouse=True)
def endpoint() -> None:
    sealed = seal(SECRET.encode(), purpose=PlanPart.PURPOSE)
    PlanPart.objects.create(name=PlanPart.Name.WEBHOOK, stripe_id="we_1", sealed_secret=sealed)


@pytest.fixture
def customer(carol: Account) -> StripeCustomer:
    return customer_of(carol, "cus_carol")


def customer_of(account: Account, customer_id: str) -> StripeCustomer:
    StatusCheck.objects.create(account=account)
    return StripeCustomer.objects.create(account=account, customer_id=customer_id)


def event(kind: str = "customer.subscription.updated", **thing: Any) -> dict[str, Any]:
    about = {"id": "sub_1", "object": "subscription", "customer": "cus_carol", "status": "active"}
    return {"id": "evt_1", "object": "event", "type": kind, "data": {"object": about | thing}}


def send(
    body: dict[str, Any] | str, secret: str = SECRET, *, at: float | None = None, path: str = PATH
) -> HttpResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    signature = WebhookSignature.generate_signature_header(text, secret, int(at or time.time()))
    return post(text, signature, path)


def post(text: str | bytes, signature: str | None, path: str = PATH) -> HttpResponse:
    headers = {"Stripe-Signature": signature} if signature else {}
    return Client().post(path, text, content_type="application/json", headers=headers)


def marks(customer: StripeCustomer) -> int:
    return StatusCheck.objects.get(account=customer.account_id).marks


def jobs() -> list[str]:
    """The accounts that are to be checked, in the order of the jobs."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select args ->> 'account_id' from procrastinate_jobs"
            " where task_name = 'billing.tasks.check_status' order by id"
        )
        return [account_id for (account_id,) in cursor.fetchall()]


def test_it_works(customer: StripeCustomer) -> None:
    assert send(event()).status_code == 200
    check = StatusCheck.objects.get()
    assert (check.marks, check.settled) == (1, 0)
    assert check.cause == "customer.subscription.updated evt_1"
    assert jobs() == [customer.account_id]


def test_an_event_that_comes_twice_is_checked_twice(customer: StripeCustomer) -> None:
    for _ in range(2):
        assert send(event()).status_code == 200
    assert marks(customer) == 2
    assert jobs() == [customer.account_id] * 2


def test_what_an_event_says_is_not_believed(customer: StripeCustomer) -> None:
    send(event("customer.subscription.deleted", status="canceled"))
    send(event(status="active"))
    customer.account.refresh_from_db()
    assert customer.account.status == "INACTIVE"
    assert not StatusChange.objects.exists()


@pytest.mark.parametrize("kind", EVENTS)
def test_each_event_that_matters_marks(customer: StripeCustomer, kind: str) -> None:
    assert send(event(kind)).status_code == 200
    assert marks(customer) == 1


@pytest.mark.parametrize("kind", ["customer.updated", "customer.deleted"])
def test_an_event_about_the_customer_marks(customer: StripeCustomer, kind: str) -> None:
    send(event(kind, id="cus_carol", object="customer", customer=None))
    assert marks(customer) == 1


def test_a_customer_may_come_whole(customer: StripeCustomer) -> None:
    send(event(customer={"id": "cus_carol", "object": "customer"}))
    assert marks(customer) == 1


def test_metadata_binds_nobody(customer: StripeCustomer, alice: Account) -> None:
    """Whoever writes Carol's id on Alice's customer at Stripe moves nothing."""
    customer_of(alice, "cus_alice")
    stolen = {"account_id": customer.account_id}
    send(event("customer.updated", id="cus_alice", object="customer", metadata=stolen))
    assert marks(customer) == 0
    assert jobs() == [alice.id]
    assert StripeCustomer.objects.get(customer_id="cus_alice").account == alice


@pytest.mark.parametrize(
    "harmless",
    [
        event("price.updated", id="price_1", object="price", customer=None),
        event("a.kind.to.come"),
        event(customer="cus_of_another_product"),
        event(customer=None),
    ],
)
def test_what_is_not_ours_is_taken_and_left(
    customer: StripeCustomer, harmless: dict[str, Any]
) -> None:
    assert send(harmless).status_code == 200
    assert marks(customer) == 0
    assert jobs() == []


class TestSignature:
    @pytest.fixture(autouse=True)
    def nothing_is_marked(self, customer: StripeCustomer) -> Any:
        yield
        assert marks(customer) == 0
        assert jobs() == []

    def test_a_wrong_secret_is_refused(self) -> None:
        assert send(event(), "whsec_of_somebody_else").status_code == 400

    def test_a_missing_signature_is_refused(self) -> None:
        assert post(json.dumps(event()), None).status_code == 400

    @pytest.mark.parametrize("header", ["", "t=1", "v1=abc", "t=x,v1=abc", "nonsense"])
    def test_nonsense_is_refused(self, header: str) -> None:
        assert post(json.dumps(event()), header).status_code == 400

    def test_a_changed_body_is_refused(self) -> None:
        signature = WebhookSignature.generate_signature_header(json.dumps(event()), SECRET)
        changed = json.dumps(event(customer="cus_bob"))
        assert post(changed, signature).status_code == 400

    def test_an_old_one_is_refused(self) -> None:
        assert send(event(), at=time.time() - 301).status_code == 400

    @pytest.mark.parametrize("body", [b"\xff\xfe", b"", b"{"])
    def test_what_is_no_json_is_refused(self, body: bytes) -> None:
        signature = WebhookSignature.generate_signature_header(
            body.decode(errors="replace"), SECRET
        )
        assert post(body, signature).status_code == 400

    def test_nobody_has_signed_before_the_set_up(self) -> None:
        PlanPart.objects.all().delete()
        assert send(event(), "").status_code == 400

    def test_a_secret_that_cannot_be_unsealed_verifies_nothing(self) -> None:
        PlanPart.objects.update(sealed_secret=b"sealed with a key that is gone")
        assert send(event()).status_code == 400

    def test_it_is_only_posted(self) -> None:
        assert Client().get(PATH).status_code == 405

    def test_a_header_of_dj_stripes_forges_nothing(self) -> None:
        headers = {"x-djstripe-webhook-secret": SECRET}
        response = Client().post(PATH, event(), content_type="application/json", headers=headers)
        assert response.status_code == 400


class TestSecrets:
    @pytest.mark.parametrize("secret", ["whsec_new", "whsec_old", SECRET])
    def test_each_of_several_will_do(
        self, customer: StripeCustomer, settings: Any, secret: str
    ) -> None:
        settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", "whsec_old"]
        assert send(event(), secret).status_code == 200
        assert marks(customer) == 1


class TestMeter:
    """Stripe's thin event about meter events that it could not count."""

    PATH = f"{PATH}/meter"
    EVENT = {
        "id": "evt_test_1",
        "object": "v2.core.event",
        "type": METER_EVENT,
        "related_object": {"id": "mtr_1", "type": "billing.meter"},
    }

    def test_it_works(self) -> None:
        for _ in range(2):
            assert send(self.EVENT, path=self.PATH).status_code == 200
        problem = MeterProblem.objects.get()
        assert (problem.kind, problem.key) == ("error-report", "evt_test_1")

    def test_another_kind_is_taken_and_left(self) -> None:
        other = self.EVENT | {"type": "v1.billing.meter.no_meter_found"}
        assert send(other, path=self.PATH).status_code == 200
        assert not MeterProblem.objects.exists()

    def test_what_stripe_has_not_signed_is_refused(self) -> None:
        assert send(self.EVENT, "whsec_of_somebody_else", path=self.PATH).status_code == 400
        assert Client().get(self.PATH).status_code == 405
        assert not MeterProblem.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_events_at_once_are_all_counted(customer: StripeCustomer) -> None:
    start = Barrier(4, timeout=10)

    def attempt(number: int) -> int:
        try:
            start.wait()
            return send(event() | {"id": f"evt_{number}"}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(attempt, range(4))) == [200] * 4
    assert marks(customer) == 4
