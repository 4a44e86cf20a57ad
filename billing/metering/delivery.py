"""Sends a meter event, and interprets Stripe's response."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import stripe
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing.metering.comparison import flag_unbilled, has_counted
from billing.metering.periods import Place, Term, place_late, term_at, term_of
from billing.models import MeterEvent, PlanPart
from billing.plan import METER_EVENT_NAME, part_id
from billing.stripe_api import PaymentsUnavailable, asking, is_missing

# Of an account that an operator activated: its minutes wait until the customer pays.
NO_CUSTOMER = "The account has no customer in Stripe."
# https://docs.stripe.com/api/billing/meter-event/create
OLDEST = timedelta(days=35)
# Stripe deduplicates identifiers for at least that long.
DEDUPLICATED_FOR = timedelta(hours=24)
# An attempt may take a while.
_ONCE_WITHIN = DEDUPLICATED_FOR - timedelta(hours=1)

# Stripe's v1 API says it in words only, its v2 API with a code.
_DUPLICATE = "An event already exists with identifier"
_DUPLICATE_CODE = "duplicate_meter_event"
_TOO_OLD_CODE = "timestamp_too_far_in_past"


@dataclass(frozen=True, slots=True)
class Claim:
    """An event that is claimed until a time, and the terms under which it is paid.

    ``terms`` is None if the customer's subscription cannot be read.
    """

    event: MeterEvent
    customer_id: str | None
    terms: tuple[Term, ...] | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of an attempt. An event that is still pending is sent again."""

    state: str
    error: str = ""
    is_outage: bool = False


def attempt(claim: Claim) -> Result | None:
    """Send an event; return None if the claim is lost.

    No database connection is held while Stripe responds.
    """
    if claim.event.happened_at < timezone.now() - OLDEST:
        return Result(MeterEvent.State.TOO_OLD, "Stripe only accepts events of the past 35 days.")
    if claim.customer_id is None:
        return Result(MeterEvent.State.PENDING, NO_CUSTOMER)
    if claim.terms is None:
        return Result(MeterEvent.State.PENDING, "The account's subscription cannot be read.")
    try:
        return _send(claim, claim.customer_id, claim.terms)
    except PaymentsUnavailable as unavailable:
        reason = type(unavailable.__cause__ or unavailable).__name__
        return Result(MeterEvent.State.PENDING, reason, is_outage=True)
    except stripe.IdempotencyError as error:
        # The first request is still running, or had another time. The next one has another key.
        return Result(MeterEvent.State.PENDING, str(error))
    except stripe.InvalidRequestError as error:
        return _refusal(error)


def _send(claim: Claim, customer_id: str, terms: tuple[Term, ...]) -> Result | None:
    event = claim.event
    place = _place(event.happened_at, terms)
    if _may_be_counted_twice(event, place):
        counted = has_counted(event, customer_id)
        if counted is None:
            return Result(MeterEvent.State.PENDING, "Stripe may have counted it already.")
        if counted:
            return Result(MeterEvent.State.SENT)
    if not _begin(claim, place):
        return None
    with asking():
        stripe.billing.MeterEvent.create(
            event_name=METER_EVENT_NAME,
            identifier=event.identifier,
            payload={"stripe_customer_id": customer_id, "value": str(event.minutes)},
            timestamp=int(place.at.timestamp()),
            # Stripe replays its response to a key, even a failure, so each attempt has its own.
            idempotency_key=f"{event.identifier}-{event.attempts}",
        )
    return Result(MeterEvent.State.SENT)


def _place(at: datetime, terms: tuple[Term, ...]) -> Place:
    """Return the time to report an event at so that an invoice includes it.

    Stripe is asked if it is late. If that invoice is final, the event goes to the next period.
    """
    if any(term.will_bill(at) for term in terms):
        return Place(at, is_billed=True)
    term = term_at(at, terms)
    if term is None:
        return Place(at, is_billed=False)
    with asking():
        try:
            subscription = stripe.Subscription.retrieve(
                term.subscription_id, expand=["latest_invoice"]
            ).to_dict()
        except stripe.InvalidRequestError as error:
            if not is_missing(error):
                raise
            return Place(at, is_billed=False)
    now_known = term_of(subscription, part_id(PlanPart.Name.METER)) or term
    return place_late(at, now_known, subscription["latest_invoice"], now=timezone.now())


def _may_be_counted_twice(event: MeterEvent, place: Place) -> bool:
    """Return True if Stripe may not deduplicate an earlier attempt that got no response."""
    return event.first_attempt_at is not None and (
        event.first_attempt_at < timezone.now() - _ONCE_WITHIN or place.at != event.happened_at
    )


@transaction.atomic
def _begin(claim: Claim, place: Place) -> bool:
    """Record the attempt; return False if the claim is lost."""
    ours = MeterEvent.objects.unsent().filter(pk=claim.event.pk, next_attempt_at=claim.until)
    first = Coalesce("first_attempt_at", Value(timezone.now()))
    if not ours.update(happened_at=place.at, first_attempt_at=first):
        return False
    if not place.is_billed:
        flag_unbilled(claim.event)
    return True


def _refusal(error: stripe.InvalidRequestError) -> Result:
    text = error.user_message or ""
    if error.code == _DUPLICATE_CODE or text.startswith(_DUPLICATE):
        return Result(MeterEvent.State.SENT)
    if error.code == _TOO_OLD_CODE:
        return Result(MeterEvent.State.TOO_OLD, text)
    return Result(MeterEvent.State.REFUSED, text)
