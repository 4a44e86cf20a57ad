from __future__ import annotations

import pytest
import stripe
from django.db import connection

from billing.provisioning import plan_set_up
from billing.tests.memory import MemoryStripe
from billing.tests.stripes_meter import StripesMeter


@pytest.fixture
def no_jobs(db: None) -> None:
    forget_jobs()


def forget_jobs() -> None:
    """The tables of the queue are not Django's, so they are not emptied between tests."""
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs")


@pytest.fixture
def stripes_meter(monkeypatch: pytest.MonkeyPatch) -> StripesMeter:
    """Stripe's meter is this; the SDK repeats no request by itself."""
    meter = StripesMeter()
    monkeypatch.setattr(stripe, "default_http_client", meter)
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    return meter


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStripe:
    """Stripe is this, with nothing in it; the SDK repeats no request by itself."""
    memory = MemoryStripe()
    monkeypatch.setattr(stripe, "default_http_client", memory)
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    return memory


@pytest.fixture
def at_stripe(memory: MemoryStripe, no_jobs: None) -> MemoryStripe:
    """Stripe, as ``setup_stripe`` leaves it."""
    plan_set_up(lambda line: None)
    memory.requests.clear()
    return memory
