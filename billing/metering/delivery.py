"""Sending one meter event, and what Stripe's answers mean."""

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

# https://docs.stripe.com/api/billing/meter-event/create
OLDEST = timedelta(days=35)
# Stripe takes an identifier once within 24 hours at least; an attempt may take a while.
_ONCE_WITHIN = timedelta(hours=23)

# Stripe's first API says it in words alone, its second with a code.
_DUPLICATE = "An event already exists with identifier"
_DUPLICATE_CODE = "duplicate_meter_event"
_TOO_OLD_CODE = "timestamp_too_far_in_past"


@dataclass(frozen=True, slots=True)
class Claim:
    """An event that is ours to send until a time, and what is known about who pays for it.

    Without ``terms`` it is unknown when they pay: their subscription cannot be read.
    """

    event: MeterEvent
    customer_id: str | None
    terms: tuple[Term, ...] | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an event; one that is pending still is sent again."""

    state: str
    error: str = ""
    is_outage: bool = False


def attempt(claim: Claim) -> Result | None:
    """Send an event; None if it is not ours any more.

    No database connection is held while Stripe is waited for.
    """
    if claim.event.happened_at < timezone.now() - OLDEST:
        return Result(MeterEvent.State.TOO_OLD, "Stripe takes events of the past 35 days.")
    if claim.customer_id is None:
        return Result(MeterEvent.State.PENDING, "The account has no customer at Stripe.")
    if claim.terms is None:
        return Result(MeterEvent.State.PENDING, "The account's subscription cannot be read.")
    try:
        return _send(claim, claim.customer_id, claim.terms)
    except PaymentsUnavailable as unavailable:
        reason = type(unavailable.__cause__ or unavailable).__name__
        return Result(MeterEvent.State.PENDING, reason, is_outage=True)
    except stripe.IdempotencyError as error:
        # The first request is running still, or named another time. The next has another key.
        return Result(MeterEvent.State.PENDING, str(error))
    except stripe.InvalidRequestError as error:
        return _refusal(error)


def _send(claim: Claim, customer_id: str, terms: tuple[Term, ...]) -> Result | None:
    event = claim.event
    place = _place(event.happened_at, terms)
    if _may_be_counted_twice(event, place):
        counted = has_counted(event, customer_id)
        if counted is None:
            return Result(MeterEvent.State.PENDING, "It is unknown whether Stripe has counted it.")
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
            # Stripe repeats its answer to a key, failures too: another attempt has another one.
            idempotency_key=f"{event.identifier}-{event.attempts}",
        )
    return Result(MeterEvent.State.SENT)


def _place(at: datetime, terms: tuple[Term, ...]) -> Place:
    """Return when an event is to be counted so that somebody pays for it; Stripe is asked if late.

    An invoice that is final already makes it one of the next period.
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
    """Whether an attempt that was never answered is out of the reach of Stripe's own protection."""
    return event.first_attempt_at is not None and (
        event.first_attempt_at < timezone.now() - _ONCE_WITHIN or place.at != event.happened_at
    )


@transaction.atomic
def _begin(claim: Claim, place: Place) -> bool:
    """Write down what is about to be sent; False if somebody else has it by now."""
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
