"""Poisons in what Stripe signs, and in the signature: taken, or refused with 400."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from itertools import product

import pytest
from django.http import HttpResponse
from django.test import Client
from stripe import WebhookSignature

from accounts.models import Account
from billing.models import PlanPart, StatusCheck, StripeCustomer
from billing.webhooks import EVENTS, METER_EVENT
from core.sealing import seal
from core.tests.poisons import POISONS

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_jobs")]

SECRET = "whsec_0123456789abcdef"
PATHS = {"/webhooks/stripe": EVENTS[0], "/webhooks/stripe/meter": METER_EVENT}


@pytest.fixture(autouse=True)
def endpoint(carol: Account) -> None:
    sealed = seal(SECRET.encode(), purpose=PlanPart.PURPOSE)
    PlanPart.objects.create(name=PlanPart.Name.WEBHOOK, stripe_id="we_1", sealed_secret=sealed)
    StatusCheck.objects.create(account=carol)
    StripeCustomer.objects.create(account=carol, customer_id="cus_carol")


@pytest.fixture
def nothing_is_raised(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [
        each for each in caplog.records if each.levelno >= logging.ERROR and each.exc_info
    ] == []


def event(kind: str) -> str:
    return (
        f'{{"id": "evt_1", "object": "event", "type": "{kind}", "data": {{"object": '
        '{"id": "sub_1", "object": "subscription", "customer": "cus_carol"}}}'
    )


def send(path: str, body: str, header: str | None = None) -> HttpResponse:
    signed = WebhookSignature.generate_signature_header(body, SECRET, int(time.time()))
    client = Client(raise_request_exception=False, headers={"Stripe-Signature": header or signed})
    return client.post(path, body.encode(), content_type="application/json")


@pytest.mark.usefixtures("nothing_is_raised")
def test_each_value_of_an_event() -> None:
    for poison, (path, kind) in product(POISONS, PATHS.items()):
        values = list(re.finditer(r'(?<=: )("[^"]*"|{.*?}+)', event(kind)))
        spoiled = [event(kind)[: v.start()] + poison.json + event(kind)[v.end() :] for v in values]
        for body in [*spoiled, poison.json]:
            assert send(path, body).status_code in (200, 400), body[:120]


@pytest.mark.usefixtures("nothing_is_raised")
@pytest.mark.parametrize("missing", ["id", "type", "data", "object", "customer"])
def test_what_is_missing(missing: str) -> None:
    for path, kind in PATHS.items():
        body = event(kind).replace(f'"{missing}":', '"another":')
        assert send(path, body).status_code in (200, 400)


@pytest.mark.usefixtures("nothing_is_raised")
@pytest.mark.parametrize("body", ["[]", "5", "null", '""', '[["id", "evt_1"]]', "{}", "1e5"])
def test_what_is_no_event_is_refused(body: str) -> None:
    for path in PATHS:
        assert send(path, body).status_code == 400


@pytest.mark.usefixtures("nothing_is_raised")
def test_the_signature() -> None:
    for poison, path in product(POISONS, PATHS):
        text = re.sub(r"[\r\n\0]", "", poison.text).encode(errors="replace").decode("latin-1")
        for header in (text or "x", f"t={text},v1={text}", f"t=1,v1={text}", f"t=1,{text}=a"):
            assert send(path, event(EVENTS[0]), header).status_code == 400


def test_an_event_that_is_odd_elsewhere_counts() -> None:
    """Nothing but the ids is read, and a customer that is none is nobody's."""
    body = json.loads(event(EVENTS[0]))
    body["data"]["object"] |= {"note": "a\0b", "status": [[[]]], "amount": -1}
    assert send("/webhooks/stripe", json.dumps(body)).status_code == 200
    assert StatusCheck.objects.get().marks == 1
