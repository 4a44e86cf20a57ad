"""Events: signed, in order, and as unreliable as configured."""

from __future__ import annotations

import json
import random
import socket
import time
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.db import connection, transaction
from django.utils import timezone

from sandbox.payments import delivery, events, steering, tasks, testing
from sandbox.payments.models import Delivery, StripeObject
from sandbox.tests.payments.conftest import Shop
from sandbox.tests.payments.receiver import Receiver, deliver_due

pytestmark = pytest.mark.django_db


def states() -> list[str]:
    return list(Delivery.objects.order_by("id").values_list("state", flat=True))


def make(*names: str) -> None:
    for name in names:
        stripe.Customer.create(name=name)


def names(receiver: Receiver, secret: str) -> list[str]:
    return [event.data.object.name for event in receiver.events(secret)]


class TestDelivery:
    def test_it_works(self, receiver: Receiver) -> None:
        secret = receiver.register("customer.created")
        made = stripe.Customer.create(name="Alice", idempotency_key="k1")
        deliver_due()
        [event] = receiver.events(secret)
        assert (event.type, event.data.object.id) == ("customer.created", made.id)
        assert event.api_version == "2026-05-27.dahlia"
        assert event["request"].idempotency_key == "k1"
        assert event["request"].id == made.last_response.request_id
        assert event.pending_webhooks == 1
        assert states() == ["delivered"]

    def test_another_secret_does_not_verify_it(self, receiver: Receiver) -> None:
        receiver.register("customer.created")
        make("Alice")
        deliver_due()
        with pytest.raises(stripe.SignatureVerificationError):
            receiver.events("whsec_another")

    def test_in_the_order_in_which_it_happened(self, shop: Shop, receiver: Receiver) -> None:
        secret = receiver.register("*")
        alice = stripe.Customer.create()
        testing.pay(shop.checkout(alice.id).id)
        deliver_due()
        happened = testing.event_types()
        assert receiver.types(secret) == happened[happened.index("customer.created") :]

    def test_only_what_is_asked_for(self, receiver: Receiver) -> None:
        secret = receiver.register("customer.updated", "customer.deleted")
        alice = stripe.Customer.create()
        stripe.Customer.modify(alice.id, name="Alice")
        deliver_due()
        assert receiver.types(secret) == ["customer.updated"]

    def test_not_to_an_endpoint_that_is_off(self, receiver: Receiver) -> None:
        receiver.register()
        [endpoint] = stripe.WebhookEndpoint.list()
        assert stripe.WebhookEndpoint.modify(endpoint.id, disabled=True).status == "disabled"
        make("Alice")
        stripe.WebhookEndpoint.modify(endpoint.id, disabled=False)
        stripe.WebhookEndpoint.delete(endpoint.id)
        make("Bob")
        assert states() == []

    def test_what_is_undone_never_happened(self, receiver: Receiver) -> None:
        receiver.register()
        with transaction.atomic():
            make("Alice")
            transaction.set_rollback(True)
        assert (states(), testing.event_types()) == ([], [])


class TestFailure:
    def test_it_is_tried_again_later(self, receiver: Receiver) -> None:
        secret = receiver.register("customer.created")
        receiver.statuses = [500, 302]
        make("Alice")
        for attempts in (1, 2):
            deliver_due()
            [failed] = Delivery.objects.all()
            assert (failed.attempts, failed.state) == (attempts, "pending")
            assert failed.due_at > timezone.now()
            deliver_due()  # not due yet
            Delivery.objects.update(due_at=timezone.now())
        deliver_due()
        assert len(receiver.received) == 3
        assert {event.id for event in receiver.events(secret)} == {only_event_id()}
        assert states() == ["delivered"]

    def test_it_is_given_up(self, receiver: Receiver) -> None:
        receiver.register("customer.created")
        receiver.statuses = [503] * 9
        make("Alice")
        [only] = steering.waiting()
        while only.state == Delivery.State.PENDING:
            delivery.send(only)
        assert (only.state, only.attempts, only.outcome) == ("failed", 5, "HTTP 503")

    def test_the_others_go_on(self, receiver: Receiver) -> None:
        secret = receiver.register("customer.created")
        receiver.statuses = [500]
        make("Alice", "Bob")
        deliver_due()
        assert names(receiver, secret) == ["Alice", "Bob"]
        assert states() == ["pending", "delivered"]

    def test_nobody_is_there(self) -> None:
        with Receiver() as gone:
            gone.register("customer.created")
        make("Alice")
        deliver_due()
        [failed] = Delivery.objects.all()
        assert (failed.state, failed.outcome) == ("pending", "ConnectionError")

    def test_nobody_will_be_there(self, receiver: Receiver) -> None:
        """An endpoint of an earlier port is given up; its owner can enable it again."""
        with Receiver() as gone:
            secret = gone.register("customer.created")
        receiver.register("customer.created")
        make("Alice")
        for _ in range(5):
            Delivery.objects.update(due_at=timezone.now())
            deliver_due()
        make("Bob")
        deliver_due()
        assert states() == ["failed", "delivered", "delivered"]
        _, endpoint = stripe.WebhookEndpoint.list()
        assert (endpoint.url, endpoint.status) == (gone.url, "disabled")

        receiver.received.clear()
        stripe.WebhookEndpoint.modify(endpoint.id, url=receiver.url, disabled=False)
        make("Carol")
        tasks.deliver_events(StripeObject.objects.get(id=endpoint.id).pk)
        assert names(receiver, secret) == ["Carol"]

    def test_what_waits_for_a_deleted_endpoint_is_given_up(self, receiver: Receiver) -> None:
        receiver.register("customer.created")
        make("Alice")
        stripe.WebhookEndpoint.delete(stripe.WebhookEndpoint.list().data[0].id)
        deliver_due()
        assert states() == ["failed"]
        assert receiver.received == []


class TestSteering:
    @pytest.fixture
    def secret(self, receiver: Receiver) -> str:
        return receiver.register("customer.created")

    def test_held_and_released(self, receiver: Receiver, secret: str) -> None:
        steering.hold()
        make("Alice", "Bob")
        deliver_due()
        assert receiver.received == []
        assert steering.release() == 2
        make("Carol")
        deliver_due()
        assert names(receiver, secret) == ["Alice", "Bob", "Carol"]

    def test_in_another_order(self, receiver: Receiver, secret: str) -> None:
        steering.hold()
        make("Alice", "Bob", "Carol")
        steering.deliver(order=lambda waiting: [waiting[n] for n in (2, 0, 1)])
        assert names(receiver, secret) == ["Carol", "Alice", "Bob"]
        assert steering.waiting() == []

    def test_newest_first(self, receiver: Receiver, secret: str) -> None:
        steering.set_rule(order="newest")
        make("Alice", "Bob")
        deliver_due()
        assert names(receiver, secret) == ["Bob", "Alice"]

    def test_shuffled(self, receiver: Receiver, secret: str) -> None:
        steering.set_rule(order="shuffled")
        make(*"abcdef")
        random.seed(1)
        deliver_due()
        assert sorted(names(receiver, secret)) == list("abcdef")
        assert names(receiver, secret) != list("abcdef")

    def test_repeated(self, receiver: Receiver, secret: str) -> None:
        steering.hold()
        make("Alice", "Bob")
        steering.deliver(times=2)
        assert names(receiver, secret) == ["Alice", "Alice", "Bob", "Bob"]
        assert len({event.id for event in receiver.events(secret)}) == 2

    def test_repeated_by_rule(self, receiver: Receiver, secret: str) -> None:
        steering.set_rule(copies=3)
        make("Alice")
        deliver_due()
        assert names(receiver, secret) == ["Alice"] * 3

    def test_lost(self, receiver: Receiver, secret: str) -> None:
        steering.hold()
        make("Alice", "Bob")
        assert steering.drop() == 2
        steering.release()
        deliver_due()
        assert receiver.received == []
        assert len(testing.events("customer.created")) == 2

    def test_lost_by_rule(self, receiver: Receiver, secret: str) -> None:
        steering.set_rule(copies=0)
        make("Alice")
        steering.reset()
        make("Bob")
        deliver_due()
        assert names(receiver, secret) == ["Bob"]
        assert states() == ["dropped", "delivered"]

    def test_delayed(self, receiver: Receiver, secret: str) -> None:
        steering.set_rule(delay_s=60)
        make("Alice")
        deliver_due()
        assert receiver.received == []
        Delivery.objects.update(due_at=timezone.now())
        deliver_due()
        assert names(receiver, secret) == ["Alice"]

    def test_by_type(self, receiver: Receiver) -> None:
        secret = receiver.register("customer.created", "product.created")
        steering.hold("product.created")
        make("Alice")
        stripe.Product.create(name="Thing")
        deliver_due()
        assert receiver.types(secret) == ["customer.created"]
        steering.deliver("product.created")
        assert receiver.types(secret)[-1] == "product.created"

    def test_sent_again(self, receiver: Receiver, secret: str) -> None:
        make("Alice")
        deliver_due()
        steering.send_again(Delivery.objects.get())
        deliver_due()
        assert names(receiver, secret) == ["Alice", "Alice"]


class TestJobs:
    """A worker delivers, once the change is committed."""

    def jobs(self) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(
                "select scheduled_at, lock, args from procrastinate_jobs "
                "where task_name = %s and status = 'todo' order by args -> 'endpoint', id",
                [events.TASK],
            )
            return [
                {"at": at, "lock": lock, "args": json.loads(args)}
                for at, lock, args in cursor.fetchall()
            ]

    def test_one_is_enough(self, no_jobs: None, receiver: Receiver) -> None:
        receiver.register("customer.created")
        make("Alice", "Bob")
        assert len(self.jobs()) == 1

    def test_an_endpoint_that_hangs_keeps_no_other_waiting(
        self, no_jobs: None, receiver: Receiver
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as hanging:
            url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
            stripe.WebhookEndpoint.create(url=url, enabled_events=["customer.created"])
            secret = receiver.register("customer.created")
            make("Alice", "Bob")
            first, second = self.jobs()
            assert first["lock"] != second["lock"]
            tasks.deliver_events(**second["args"])
            assert names(receiver, secret) == ["Alice", "Bob"]
            hanging.setblocking(False)
            with pytest.raises(BlockingIOError):
                hanging.accept()

    def test_none_where_nobody_listens(self, no_jobs: None) -> None:
        make("Alice")
        assert self.jobs() == []

    def test_later_ones_do_not_keep_the_next_one_waiting(
        self, no_jobs: None, receiver: Receiver
    ) -> None:
        receiver.register("customer.created")
        steering.set_rule(delay_s=60)
        make("Alice")
        steering.reset()
        make("Bob")
        later, now = self.jobs()
        assert later["at"] - timezone.now() > timedelta(seconds=50)
        assert now["at"] is None


def test_the_signature_is_as_old_as_it_is(receiver: Receiver) -> None:
    """A customer's clock does not matter: the verifier of a signature has the real time."""
    secret = receiver.register("customer.updated")
    alice = stripe.Customer.create().id
    testing.turn(alice, days=90)
    stripe.Customer.modify(alice, name="Alice")
    deliver_due()
    [event] = receiver.events(secret)
    assert event.created > time.time() + 89 * 86_400


def only_event_id() -> str:
    [event] = testing.events("customer.created")
    return str(event["id"])
