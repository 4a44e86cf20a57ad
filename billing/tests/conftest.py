from __future__ import annotations

import pytest
import stripe
from django.db import connection

from billing.plan import METER_EVENT_NAME
from billing.tests.metered import METER
from billing.tests.setting_up import set_up_stripe
from billing.tests.watched import WatchedStripe
from sandbox.payments import steering


@pytest.fixture
def no_jobs(db: None) -> None:
    forget_jobs()


def forget_jobs() -> None:
    """The tables of the queue are not Django's, so they are not emptied between tests."""
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs")


@pytest.fixture
def watched(db: None, monkeypatch: pytest.MonkeyPatch) -> WatchedStripe:
    """Stripe, with nothing in it; it tells us nothing by itself, and the SDK repeats no request."""
    steering.hold()
    watched = WatchedStripe()
    monkeypatch.setattr(stripe, "default_http_client", watched)
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    return watched


@pytest.fixture
def stripes_meter(watched: WatchedStripe) -> WatchedStripe:
    """Stripe, with our meter and nothing else in it."""
    watched.things[METER] = {
        "object": "billing.meter",
        "default_aggregation": {"formula": "sum"},
        "event_name": METER_EVENT_NAME,
    }
    return watched


@pytest.fixture
def at_stripe(watched: WatchedStripe, no_jobs: None) -> WatchedStripe:
    """Stripe, as ``setup_stripe`` leaves it."""
    set_up_stripe()
    watched.requests.clear()
    return watched
