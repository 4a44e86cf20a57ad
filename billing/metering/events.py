"""From usage records to Stripe's meter: each call's minutes once, whatever dies on the way.

Usage is not told about this: what has no meter event yet is looked for. An event is written before
it is sent, under the record's own identifier. Who sends it claims it for a while; what nobody has
recorded as sent by then is sent again. Stripe takes an identifier once within a day; what was
attempted earlier than that is asked for before it is sent again (``billing.metering.delivery``).
"""

from __future__ import annotations

import random
from datetime import timedelta

import structlog
from django.db import DatabaseError, transaction
from django.db.models import Exists, F, Max, OuterRef, QuerySet
from django.utils import timezone

from billing.metering.delivery import Claim, Result, attempt
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
# A record's id is made before its transaction ends, by the clock of another machine.
OVERLAP = timedelta(minutes=15)
# Longer than the nightly search may have failed to run.
SEARCHED = timedelta(days=7)
_HOUR = timedelta(hours=1)

BATCH_SIZE = 50
LEASE = timedelta(minutes=10)
# Before the lease ends: longer than the requests for one event can take.
_MARGIN = timedelta(minutes=2)
_RUN_AT_MOST = timedelta(minutes=10)
_OUTAGE_AFTER = 3  # failures in a row

_FIRST_RETRY = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(hours=1)
_JITTER = 0.25


def meter_events_write() -> int:
    """Write a meter event for each new usage record that costs something; return how many.

    It goes on where the newest event was, and looks at a few minutes before that again.
    """
    return _write_all(_where_to_continue())


def meter_events_search() -> int:
    """Write the meter events of the past days that were missed, which should be none."""
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
    # A clock that is ahead does not hide what the others do.
    return first_id_of(min(made_at(newest), timezone.now()) - OVERLAP)


def _write_all(after: str, until: str | None = None) -> int:
    count = 0
    while page := _write_page(after, until):
        after, count = page[-1].id, count + len(page)
    return count


def _write_page(after: str, until: str | None = None) -> list[UsageRecord]:
    """Write the next events, in the order of the records' ids; return the records.

    If they cannot be written together, each is by itself. The nightly search tries again what
    could not be written then.
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
        ignore_conflicts=True,  # somebody else was quicker
    )


def _unwritten(after: str, until: str | None) -> QuerySet[UsageRecord]:
    """The records between these ids that cost something and have no event.

    The range is said of both tables: PostgreSQL would read one of them from its beginning.
    """
    records, events = UsageRecord.objects.filter(id__gt=after), MeterEvent.objects.all()
    events = events.filter(usage_record=OuterRef("pk"), usage_record_id__gt=after)
    if until is not None:
        records, events = records.filter(id__lt=until), events.filter(usage_record_id__lt=until)
    return records.filter(~Exists(events), minutes__gt=0)


def meter_events_hurry(*, account_id: str) -> None:
    """Make due what the account has not sent, whoever may be sending it: Stripe takes it once."""
    unsent = MeterEvent.objects.unsent().filter(account_id=account_id)
    unsent.update(next_attempt_at=timezone.now())


def meter_events_send() -> None:
    """Send what is due, until nothing is, or Stripe is down, or it is time to let others work.

    Several may do so at once: each sends what it has claimed.
    """
    started = timezone.now()
    if not MeterEvent.objects.due(started).exists():
        return
    try:
        meter_id = part_id(PlanPart.Name.METER)
    except PaymentsUnavailable:  # says so in the log: there is no meter yet
        return
    while timezone.now() < started + _RUN_AT_MOST and (claims := _claim(meter_id)):
        if not _send_all(claims):
            return


class _GiveBack(Exception):
    """Stripe is down, or the lease is about to end: from this claim on, others try later."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _send_all(claims: list[Claim]) -> bool:
    """Send each; False if some were given back, as Stripe is down or the lease about to end."""
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
        _record(claims[number], Result(MeterEvent.State.PENDING, "It failed here: see the log."))

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
    """Take what waits the longest; nobody else sends it until the lease ends."""
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
        # True whoever finds it out, and however late.
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
    """Have an event sent that was refused, once its cause is removed; False if it was not."""
    refused = MeterEvent.objects.filter(pk=identifier, state=MeterEvent.State.REFUSED)
    if not refused.update(state=MeterEvent.State.PENDING, next_attempt_at=timezone.now()):
        return False
    problem_resolve(key=f"{MeterEvent.State.REFUSED}-{identifier}")
    return True


def retry_delay(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts: from seconds to an hour, and a bit."""
    delay = min(_FIRST_RETRY * 2 ** min(attempts - 1, 16), _LONGEST_RETRY)
    return delay * (1 + random.uniform(0, _JITTER))  # noqa: S311 (no secret)
