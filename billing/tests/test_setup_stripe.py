from __future__ import annotations

from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
import stripe
from django.core.management import CommandError, call_command
from djstripe import models as mirror

from billing.models import PlanPart
from billing.plan import price_ids
from billing.tests.watched import Request, WatchedStripe
from billing.webhooks import EVENTS, METER_EVENT, webhook_secrets

pytestmark = pytest.mark.django_db

KINDS = [
    "product",
    "price",
    "billing.meter",
    "billing_portal.configuration",
    "webhook_endpoint",
    "v2.core.event_destination",
]


def set_up() -> str:
    output = StringIO()
    call_command("setup_stripe", stdout=output)
    return output.getvalue()


def counts(watched: WatchedStripe) -> list[int]:
    return [len(watched.all(kind)) for kind in KINDS]


def test_it_works(watched: WatchedStripe, settings: Any) -> None:
    said = set_up()
    assert counts(watched) == [2, 2, 1, 1, 1, 1]
    base, minute = watched.all("price")
    assert (base["product"], base["lookup_key"]) == ("switchhook", "switchhook_base")
    assert (base["unit_amount_decimal"], base["currency"]) == ("500", "usd")
    recurring = base["recurring"]
    assert (recurring["interval"], recurring["usage_type"]) == ("month", "licensed")
    [meter] = watched.all("billing.meter")
    assert meter["event_name"] == "switchhook_minutes"
    assert meter["default_aggregation"] == {"formula": "sum"}
    assert meter["value_settings"] == {"event_payload_key": "value"}
    assert meter["customer_mapping"]["event_payload_key"] == "stripe_customer_id"
    assert minute["product"] == "switchhook_minutes"
    assert (minute["unit_amount_decimal"], minute["lookup_key"]) == ("5", "switchhook_minute")
    assert minute["recurring"]["meter"] == meter["id"]
    [endpoint] = watched.all("webhook_endpoint")
    assert endpoint["url"] == f"{settings.PUBLIC_URL}/webhooks/stripe"
    assert endpoint["enabled_events"] == list(EVENTS)
    assert endpoint["api_version"] == settings.STRIPE_API_VERSION
    [destination] = watched.all("v2.core.event_destination")
    assert destination["url"] == f"{settings.PUBLIC_URL}/webhooks/stripe/meter"
    assert (destination["event_payload"], destination["enabled_events"]) == ("thin", [METER_EVENT])
    assert price_ids() == (base["id"], minute["id"])
    for thing in (base, minute, meter, endpoint, destination):
        assert thing["id"] in said


def test_it_can_be_run_again(watched: WatchedStripe) -> None:
    set_up()
    parts = set(PlanPart.objects.values_list("name", "stripe_id"))
    said = set_up()
    assert counts(watched) == [2, 2, 1, 1, 1, 1]
    assert set(PlanPart.objects.values_list("name", "stripe_id")) == parts
    assert "Created" not in said


def test_the_portal_cancels_at_the_end_of_what_is_paid(watched: WatchedStripe) -> None:
    set_up()
    [portal] = watched.all("billing_portal.configuration")
    assert portal["features"]["subscription_cancel"]["mode"] == "at_period_end"
    assert not portal["features"]["subscription_update"]["enabled"]


def test_secrets_are_kept_sealed_and_not_said(watched: WatchedStripe) -> None:
    said = set_up()
    secrets = webhook_secrets()
    assert len(secrets) == 2
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert secret not in said
        assert not PlanPart.objects.filter(sealed_secret__contains=secret.encode()).exists()
    assert not mirror.WebhookEndpoint.objects.exists()


@pytest.mark.parametrize("is_sealed_with_a_lost_key", [False, True])
def test_an_endpoint_whose_secret_is_not_known_is_replaced(
    watched: WatchedStripe, is_sealed_with_a_lost_key: bool
) -> None:
    set_up()
    before = watched.all("webhook_endpoint")
    endpoints = PlanPart.objects.filter(pk__in=["webhook", "meter-webhook"])
    if is_sealed_with_a_lost_key:
        endpoints.update(sealed_secret=b"sealed with a key that is gone")
    else:
        endpoints.delete()
    assert "whose secret is unknown" in set_up()
    assert counts(watched) == [2, 2, 1, 1, 1, 1]
    assert watched.all("webhook_endpoint") != before
    assert len(webhook_secrets()) == 2


def test_an_endpoint_follows_its_address(watched: WatchedStripe, settings: Any) -> None:
    set_up()
    before = watched.all("webhook_endpoint") + watched.all("v2.core.event_destination")
    secrets = set(webhook_secrets())
    watched.things[before[1]["id"]]["status"] = "disabled"
    settings.PUBLIC_URL = "https://moved.example"
    set_up()
    [endpoint] = watched.all("webhook_endpoint")
    [destination] = watched.all("v2.core.event_destination")
    assert [endpoint["id"], destination["id"]] == [each["id"] for each in before]
    assert endpoint["url"] == "https://moved.example/webhooks/stripe"
    assert destination["url"] == "https://moved.example/webhooks/stripe/meter"
    assert destination["status"] == "enabled"
    assert set(webhook_secrets()) == secrets


def test_unless_it_is_set_in_the_environment(watched: WatchedStripe, settings: Any) -> None:
    set_up()
    before = watched.all("webhook_endpoint")
    PlanPart.objects.filter(pk__in=["webhook", "meter-webhook"]).delete()
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_set"]
    set_up()
    assert [found["id"] for found in watched.all("webhook_endpoint")] == [before[0]["id"]]
    assert webhook_secrets() == ["whsec_set"]


@pytest.mark.parametrize(
    ("name", "price", "lookup_key"),
    [
        ("MONTHLY_BASE", "7.50", "switchhook_base"),
        ("PER_MINUTE_RATE", "0.045", "switchhook_minute"),
    ],
)
def test_a_changed_price_is_a_new_one(
    watched: WatchedStripe, settings: Any, name: str, price: str, lookup_key: str
) -> None:
    set_up()
    old = price_ids()
    setattr(settings, name, Decimal(price))
    assert "It replaces" in set_up()
    assert len(watched.all("price")) == 3
    new = price_ids()
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
    [holder] = [each for each in watched.all("price") if each["lookup_key"] == lookup_key]
    assert holder["id"] in new
    assert Decimal(holder["unit_amount_decimal"]) == Decimal(price) * 100


def test_minutes_that_were_sold_under_the_other_product_get_their_name(
    watched: WatchedStripe,
) -> None:
    set_up()
    base, minute = price_ids()
    watched.things[minute]["product"] = "switchhook"
    assert f"It replaces {minute}" in set_up()
    assert price_ids() != (base, minute)
    assert price_ids()[0] == base


def test_going_back_makes_one_more(watched: WatchedStripe, settings: Any) -> None:
    """The old price has lost its lookup key, and what it is called by with it."""
    set_up()
    for price in ("7", "5"):
        settings.MONTHLY_BASE = Decimal(price)
        set_up()
    base, _ = price_ids()
    assert watched.things[base]["unit_amount_decimal"] == "500"


def test_an_archived_product_is_sold_again(watched: WatchedStripe) -> None:
    set_up()
    watched.things["switchhook"]["active"] = False
    set_up()
    assert watched.things["switchhook"]["active"] is True


def test_stripe_is_not_told_of_an_address_that_it_cannot_reach(
    watched: WatchedStripe, settings: Any
) -> None:
    settings.STRIPE_SANDBOX = False
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    assert "stripe listen" in set_up()
    assert counts(watched) == [2, 2, 1, 1, 0, 0]


def test_checks_of_subscriptions_then_need_nothing_else(watched: WatchedStripe) -> None:
    set_up()
    assert set(mirror.Price.objects.values_list("id", flat=True)) == set(price_ids())
    products = set(mirror.Product.objects.values_list("id", flat=True))
    assert products == {"switchhook", "switchhook_minutes"}


def test_a_stripe_that_is_down_is_named(watched: WatchedStripe) -> None:
    def down(request: Request) -> None:
        raise stripe.APIConnectionError("Network is unreachable")

    watched.before = down
    with pytest.raises(CommandError, match=r"Stripe could not be reached.*Network is unreachable"):
        set_up()


def test_a_refusal_is_told_in_stripes_words(watched: WatchedStripe) -> None:
    def refuse(request: Request) -> None:
        if request.path == "/v1/webhook_endpoints":
            raise stripe.InvalidRequestError("Invalid URL: not public", "url")

    watched.before = refuse
    with pytest.raises(CommandError, match="Stripe rejected a request: Invalid URL"):
        set_up()
