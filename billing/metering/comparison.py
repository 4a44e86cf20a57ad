"""Compares our minutes with those that Stripe has counted.

Stripe counts with a delay: its sum may lack what was sent within the last hour.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import stripe
import structlog
from django.db.models import Q, Sum
from django.utils import timezone

from billing.metering.periods import Term, Window, has_last_invoice, windows_of
from billing.metering.problems import problem_note, problem_resolve
from billing.metering.terms import terms_by_customer
from billing.models import MeterEvent, MeterProblem, PlanPart, StripeCustomer
from billing.plan import part_id
from billing.stripe_api import PaymentsUnavailable, asking
from core.queue.jobs import defer
from core.sweeps import each_alone

log = structlog.get_logger(__name__)

PAGE_TASK = "billing.metering.tasks.compare_page"
PAGE_SIZE = 50

_COUNTED_AFTER = timedelta(hours=1)
# Longer than the nightly comparison may be down.
_LOOKED_AT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Minutes:
    """Our minutes in a window: sent long ago, sent just now, and attempted without a response."""

    settled: int
    just_sent: int
    in_doubt: int

    @property
    def sent(self) -> int:
        return self.settled + self.just_sent

    def agree_with(self, stripes: int) -> bool:
        return self.settled <= stripes <= self.sent + self.in_doubt


def has_counted(event: MeterEvent, customer_id: str) -> bool | None:
    """Return True if Stripe counted an event that got no response; None if that is unknown.

    Stripe is asked for the minute of the event. What it has beyond our settled minutes belongs to
    events without a response, and there is hardly ever more than one in a minute.
    Raises 502 ``payments_unavailable``.
    """
    window = Window.around(event.happened_at, event.happened_at + timedelta(microseconds=1))
    stripes = _stripe_minutes(part_id(PlanPart.Name.METER), customer_id, window)
    ours = _our_minutes(event.account_id, window, now=timezone.now())
    unexplained = stripes - ours.settled
    if ours.just_sent or not 0 <= unexplained <= ours.in_doubt:
        return None
    if unexplained < event.minutes:
        return False
    others = ours.in_doubt - event.minutes
    return True if unexplained > others else None


def has_counted_all(customer: StripeCustomer, term: Term, meter_id: str) -> bool:
    """Return True if Stripe counted what was sent for a term, or had enough time to.

    Raises 502 ``payments_unavailable``.
    """
    now = timezone.now()
    for window in windows_of(term, now=now):
        ours = _our_minutes(customer.account_id, window, now=now)
        if ours.just_sent and _stripe_minutes(meter_id, customer.customer_id, window) < ours.sent:
            return False
    return True


def page_compare(after: str = "") -> None:
    """Compare a page of accounts after that id, and queue the next page.

    Raises 502 ``payments_unavailable``; the page can be compared again.
    """
    customers = StripeCustomer.objects.filter(account_id__gt=after, deleted_at=None)
    page = list(customers.order_by("account_id")[:PAGE_SIZE])
    if not page:
        return
    meter_id = part_id(PlanPart.Name.METER)
    terms = terms_by_customer([customer.customer_id for customer in page], meter_id)
    customer_of = {customer.account_id: customer for customer in page}

    def compare(account_id: str) -> None:
        customer = customer_of[account_id]
        if customer.customer_id not in terms:
            return
        try:
            _account_compare(customer, terms[customer.customer_id], meter_id)
        except stripe.InvalidRequestError as error:  # such as for a deleted customer
            said = error.user_message
            log.error("meter_not_comparable", account_id=account_id, stripe_says=said)

    each_alone(
        customer_of,
        compare,
        what="comparison with Stripe's meter",
        back_off=lambda _: None,  # until tomorrow
        in_transaction=False,
        passes=(PaymentsUnavailable,),
    )
    if len(page) == PAGE_SIZE:
        defer(PAGE_TASK, only_one=PAGE_TASK, after=page[-1].account_id)


def _account_compare(customer: StripeCustomer, terms: tuple[Term, ...], meter_id: str) -> None:
    now = timezone.now()
    for term in terms:
        windows = windows_of(term, now=now)
        for window in windows:
            _compare(customer, meter_id, window)
        if term.is_over and windows:
            _flag_a_last_period(customer.account_id, term, terms, windows[0])
    _flag_what_nobody_bills(customer.account_id, terms, since=now - _LOOKED_AT)


def flag_unbilled(event: MeterEvent) -> None:
    """Report minutes to an operator that no subscription pays for."""
    problem_note(
        kind=MeterProblem.Kind.AFTER_CANCELLATION,
        key=_unbilled_key(event),
        account_id=event.account_id,
        detail={"call": event.identifier, "minutes": event.minutes},
    )


def _compare(customer: StripeCustomer, meter_id: str, window: Window) -> None:
    now = timezone.now()
    # In this order: what Stripe has counted by now was attempted before.
    stripes = _stripe_minutes(meter_id, customer.customer_id, window)
    ours = _our_minutes(customer.account_id, window, now=now)
    key = f"difference-{customer.account_id}-{window.start:%Y-%m-%dT%H:%M}"
    detail = {"from": window.start.isoformat(), "stripes": stripes, **asdict(ours)}
    if ours.agree_with(stripes):
        problem_resolve(key=key, detail=detail)
    else:
        problem_note(
            kind=MeterProblem.Kind.DIFFERENCE,
            key=key,
            account_id=customer.account_id,
            detail=detail,
        )


def _stripe_minutes(meter_id: str, customer_id: str, window: Window) -> int:
    with asking():
        summaries = stripe.billing.Meter.list_event_summaries(
            meter_id,
            customer=customer_id,
            start_time=int(window.start.timestamp()),
            end_time=int(window.end.timestamp()),
        )
        return round(sum(each.aggregated_value for each in summaries.auto_paging_iter()))


def _our_minutes(account_id: str, window: Window, *, now: datetime) -> Minutes:
    sent = Q(state=MeterEvent.State.SENT)
    settled = Q(sent_at__lt=now - _COUNTED_AFTER)
    in_doubt = Q(state=MeterEvent.State.PENDING, first_attempt_at__isnull=False)
    events = MeterEvent.objects.filter(account_id=account_id).within(window.start, window.end)
    return Minutes(
        **events.aggregate(
            settled=_minutes_of(sent & settled),
            just_sent=_minutes_of(sent & ~settled),
            in_doubt=_minutes_of(in_doubt),
        )
    )


def _minutes_of(events: Q) -> Sum:
    return Sum("minutes", filter=events, default=0)


def _flag_a_last_period(
    account_id: str, term: Term, terms: tuple[Term, ...], window: Window
) -> None:
    """Flag the minutes of a subscription that was canceled without an invoice for them.

    Not if another one counts them too, as after a duplicate subscription was canceled.
    """
    minutes = _our_minutes(account_id, window, now=timezone.now()).sent
    others = (other for other in terms if other != term)
    if not minutes or any(other.covers(term.period_begins) for other in others):
        return
    with asking():
        subscription = stripe.Subscription.retrieve(
            term.subscription_id, expand=["latest_invoice"]
        ).to_dict()
    if not has_last_invoice(term, subscription["latest_invoice"]):
        problem_note(
            kind=MeterProblem.Kind.AFTER_CANCELLATION,
            key=f"unbilled-{term.subscription_id}",
            account_id=account_id,
            detail={"subscription": term.subscription_id, "minutes": minutes},
        )


def _flag_what_nobody_bills(account_id: str, terms: tuple[Term, ...], *, since: datetime) -> None:
    """Flag minutes that were sent before we knew that the subscription had ended.

    Minutes that were known to be unbilled when they were sent are flagged already.
    """
    if any(term.covers(since) and term.ends is None for term in terms):
        return
    events = MeterEvent.objects.filter(account_id=account_id, happened_at__gte=since)
    for term in terms:
        ends = Q(happened_at__lt=term.ends) if term.ends else Q()
        events = events.exclude(Q(happened_at__gte=term.begins) & ends)
    flagged = MeterProblem.objects.filter(key__in=[_unbilled_key(event) for event in events])
    known = set(flagged.values_list("key", flat=True))
    for event in events:
        if _unbilled_key(event) not in known:
            flag_unbilled(event)


def _unbilled_key(event: MeterEvent) -> str:
    return f"unbilled-{event.identifier}"
