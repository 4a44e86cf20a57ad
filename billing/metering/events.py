"""Reports each call's minutes to Stripe's meter exactly once, whatever fails on the way.

The usage app does not know metering: records without a meter event are searched for. An event is
stored before it is sent, under the record's identifier. A sender claims it for a while; if it is
not recorded as sent by then, it is sent again. Stripe deduplicates an identifier for a day; for an
older attempt, Stripe is asked before the event is sent again (``billing.metering.delivery``).
"""

from __future__ import annotations

import random
from datetime import timedelta

import structlog
from django.db import DatabaseError, transaction
from django.db.models import Exists, F, Max, OuterRef, QuerySet, Value
from django.db.models.functions import Coalesce, Least
from django.utils import timezone

from billing.metering.delivery import DEDUPLICATED_FOR, Claim, Result, attempt
from billing.metering.problems import problem_note, problem_resolve
from billing.metering.terms import terms_by_customer
from billing.models import MeterEvent, MeterProblem, PlanPart, StripeCustomer
from billing.plan import part_id
from billing.stripe_api import PaymentsUnavailable
from core.ids import first_id_of, made_at
from core.sweeps import each_alone
from usage.models import UsageRecord

log = structlog.get_logger(__name__)

PAGE_SIZE = 1000
# A record's id is created before its transaction commits, by another machine's clock.
OVERLAP = timedelta(minutes=15)
# Longer than the nightly search may be down.
SEARCHED = timedelta(days=7)
_HOUR = timedelta(hours=1)

# What a worker that was killed had claimed waits until the lease ends. A lease that ends too early
# does no harm, since Stripe counts an identifier once: it makes one request more. So it is short,
# and the batch so small that a slow Stripe is through with it in time.
BATCH_SIZE = 10
LEASE = timedelta(minutes=3)
# The last part of a lease, longer than the requests for one event can take.
_MARGIN = timedelta(minutes=2)
_RUN_AT_MOST = timedelta(minutes=10)
_OUTAGE_AFTER = 3  # failures in a row

_FIRST_RETRY = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(hours=1)
_JITTER = 0.25


def meter_events_write() -> int:
    """Store a meter event for each new billable usage record; return how many.

    Continues at the newest event, and repeats the few minutes before it.
    """
    return _write_all(_where_to_continue())


def meter_events_search() -> int:
    """Store meter events of the past days that were missed; there should be none."""
    meter_events_write()
    end = timezone.now() - OVERLAP
    start, count = end - SEARCHED, 0
    while start < end:
        count += _write_all(first_id_of(start), first_id_of(min(start + _HOUR, end)))
        start += _HOUR
    if count:
        log.error("usage_found_late", records=count, likely="a clock that is wrong")
    return count


def _where_to_continue() -> str:
    newest = MeterEvent.objects.aggregate(newest=Max("usage_record_id"))["newest"]
    if newest is None:
        return ""
    # A machine whose clock is ahead must not hide the records of others.
    return first_id_of(min(made_at(newest), timezone.now()) - OVERLAP)


def _write_all(after: str, until: str | None = None) -> int:
    count = 0
    while page := _write_page(after, until):
        after, count = page[-1].id, count + len(page)
    return count


def _write_page(after: str, until: str | None = None) -> list[UsageRecord]:
    """Store the next events, in the order of the records' ids; return the records.

    If they cannot be stored together, each is stored alone. The nightly search retries the rest.
    """
    records = list(_unwritten(after, until).order_by("id")[:PAGE_SIZE])
    try:
        with transaction.atomic():
            _write(records)
    except DatabaseError:
        by_id = {record.id: record for record in records}
        each_alone(
            by_id,
            lambda id: _write([by_id[id]]),
            what="writing of a meter event",
            back_off=lambda _: None,
        )
    return records


def _write(records: list[UsageRecord]) -> None:
    MeterEvent.objects.bulk_create(
        (
            MeterEvent(
                identifier=record.identifier,
                usage_record=record,
                account_id=record.account_id,
                minutes=record.minutes,
                happened_at=record.created_at,
            )
            for record in records
        ),
        ignore_conflicts=True,  # another worker stored it
    )


def _unwritten(after: str, until: str | None) -> QuerySet[UsageRecord]:
    """Return the billable records between these ids that have no event.

    Both tables are limited to the range; else PostgreSQL reads one of them from its beginning.
    """
    records, events = UsageRecord.objects.filter(id__gt=after), MeterEvent.objects.all()
    events = events.filter(usage_record=OuterRef("pk"), usage_record_id__gt=after)
    if until is not None:
        records, events = records.filter(id__lt=until), events.filter(usage_record_id__lt=until)
    return records.filter(~Exists(events), minutes__gt=0)


def meter_events_hurry(*, account_id: str) -> None:
    """Make the account's unsent events due, even claimed ones: Stripe counts them once."""
    unsent = MeterEvent.objects.unsent().filter(account_id=account_id)
    unsent.update(next_attempt_at=timezone.now())


def meter_events_doubt() -> int:
    """Have Stripe asked before each unsent event is sent; return how many there are.

    For a restored database: an event that was sent after the backup is unsent in it, and after a
    day Stripe would count it again.
    """
    meter_events_write()
    long_ago = timezone.now() - DEDUPLICATED_FOR
    return MeterEvent.objects.unsent().update(
        first_attempt_at=Least(Coalesce("first_attempt_at", Value(long_ago)), Value(long_ago))
    )


def meter_events_send() -> None:
    """Send due events until none is left, Stripe is down, or the time for one run is over.

    Several workers can do so at once: each sends what it has claimed.
    """
    started = timezone.now()
    if not MeterEvent.objects.due(started).exists():
        return
    try:
        meter_id = part_id(PlanPart.Name.METER)
    except PaymentsUnavailable:  # there is no meter yet, which is logged
        return
    while timezone.now() < started + _RUN_AT_MOST and (claims := _claim(meter_id)):
        if not _send_all(claims):
            return


class _GiveBack(Exception):
    """Stripe is down, or the lease is about to end: claims from this one on are released."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _send_all(claims: list[Claim]) -> bool:
    """Send each; return False if some were released because Stripe is down or the lease ends."""
    failures = 0

    def send(number: int) -> None:
        nonlocal failures
        claim = claims[number]
        if failures == _OUTAGE_AFTER or timezone.now() > claim.until - _MARGIN:
            raise _GiveBack(number)
        if result := attempt(claim):
            _record(claim, result)
            failures = failures + 1 if result.is_outage else 0

    def back_off(number: int) -> None:
        _record(
            claims[number], Result(MeterEvent.State.PENDING, "An error in Switchhook. See the log.")
        )

    try:
        each_alone(
            range(len(claims)),
            send,
            what="sending of a meter event",
            back_off=back_off,
            in_transaction=False,
            passes=(_GiveBack,),
        )
    except _GiveBack as rest:
        _give_back(claims[rest.number :])
        return False
    return True


def _claim(meter_id: str) -> list[Claim]:
    """Claim the events that have waited longest, until the lease ends."""
    now = timezone.now()
    until = now + LEASE
    with transaction.atomic():
        due = MeterEvent.objects.due(now).select_for_update(skip_locked=True)
        events = list(due[:BATCH_SIZE])
        ids = [event.pk for event in events]
        MeterEvent.objects.filter(pk__in=ids).update(next_attempt_at=until)
    account_ids = {event.account_id for event in events}
    customers = StripeCustomer.objects.filter(account_id__in=account_ids, deleted_at=None)
    customer_of = dict(customers.values_list("account_id", "customer_id"))
    by_customer = terms_by_customer(customer_of.values(), meter_id)
    terms_of = {account_id: by_customer.get(id) for account_id, id in customer_of.items()}
    return [
        Claim(event, customer_of.get(event.account_id), terms_of.get(event.account_id), until)
        for event in events
    ]


def _give_back(claims: list[Claim]) -> None:
    ours = MeterEvent.objects.unsent().filter(next_attempt_at=claims[0].until)
    ours.filter(pk__in=[claim.event.pk for claim in claims]).update(next_attempt_at=timezone.now())


@transaction.atomic
def _record(claim: Claim, result: Result) -> None:
    event = MeterEvent.objects.filter(pk=claim.event.pk)
    if result.state == MeterEvent.State.SENT:
        # True whoever finds out, and however late.
        event.exclude(state=result.state).update(
            state=result.state, attempts=F("attempts") + 1, sent_at=timezone.now(), last_error=""
        )
        return
    ours = event.filter(state=MeterEvent.State.PENDING, next_attempt_at=claim.until)
    attempts = claim.event.attempts + 1
    recorded = ours.update(
        state=result.state,
        attempts=attempts,
        next_attempt_at=timezone.now() + retry_delay(attempts),
        last_error=result.error[:500],
    )
    if recorded and result.state != MeterEvent.State.PENDING:
        problem_note(
            kind=MeterProblem.Kind(result.state),
            key=f"{result.state}-{claim.event.identifier}",
            account_id=claim.event.account_id,
            detail={
                "minutes": claim.event.minutes,
                "attempts": attempts,
                "message": result.error,
            },
        )


@transaction.atomic
def meter_event_send_again(*, identifier: str) -> bool:
    """Send a rejected event again after its cause is fixed; return False if it was not one."""
    refused = MeterEvent.objects.filter(pk=identifier, state=MeterEvent.State.REFUSED)
    if not refused.update(state=MeterEvent.State.PENDING, next_attempt_at=timezone.now()):
        return False
    problem_resolve(key=f"{MeterEvent.State.REFUSED}-{identifier}")
    return True


def retry_delay(attempts: int) -> timedelta:
    """Return the delay after a number of attempts: from seconds to an hour, with jitter."""
    delay = min(_FIRST_RETRY * 2 ** min(attempts - 1, 16), _LONGEST_RETRY)
    return delay * (1 + random.uniform(0, _JITTER))  # noqa: S311 (no secret)
