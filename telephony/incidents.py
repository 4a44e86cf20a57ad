"""What fails in an account, and when its owner is told: once when it fails, once when it is over.

- **An endpoint** that accepts no callback for :data:`FAILS_FOR` and at least
  :data:`FAILS_AFTER` attempts, whether it does not respond or responds with errors. It recovers
  with its first 2xx response. Of an endpoint that fails again and again, the owner is told at most
  every :data:`ENDPOINT_EVERY`; if it still fails then, that is when.
- **A callback that is given up**, at most once a day and endpoint, unless the owner was told that
  the endpoint fails.
- **Calls of a number that fail** with an error code, or in which a tool fails, until a call of
  that number goes well. The owner is told at most once a day of each code, and that calls go well
  again if they failed for longer than :data:`RECOVERY_AFTER`. Test calls from the dashboard do not
  count.

The owner is told in the transaction that stores it (``telephony.notices`` queues the messages), and
under the account's lock, so once, however many workers there are and whichever of them dies.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts.models import Account
from core.api import iso
from core.queue.jobs import defer
from core.sweeps import each_alone
from telephony import notices
from telephony.call_problems import TELLING, problem_of
from telephony.call_sids import is_test_sid
from telephony.callback_urls import address_of
from telephony.callbacks.origins import origin_of, shown
from telephony.engine.codes import CallProblem
from telephony.engine.plan import is_phone_number
from telephony.models import Call, CallbackDelivery, CallbackEndpoint, CallEvent, Incident
from telephony.notices import Event, plain

CALL_TASK = "telephony.tasks.consider_call"

FAILS_FOR, FAILS_AFTER = timedelta(hours=1), 3
ENDPOINT_EVERY = timedelta(hours=6)
RECOVERY_AFTER = timedelta(hours=1)
DAY = timedelta(days=1)
# The most incidents of a kind that an account is told about in a day.
MOST_A_DAY = 10

# Nothing was sent to it for so long that it may no longer exist.
STALE_AFTER = timedelta(days=7)
KEPT_FOR = timedelta(days=90)
_AT_ONCE = 1000
# The problems of completed calls that their owner is told about.
_TOOL_PROBLEMS = (CallProblem.TOOL_FAILED, CallProblem.TOOL_TIMEOUT)
_PUT_OFF = timedelta(minutes=10)

UNKNOWN_NUMBER = "an unknown number"


# Endpoints. The callers of the first two hold the account's lock.


def endpoint_failed(endpoint: CallbackEndpoint) -> None:
    """Decide when its owner is told; the caller saves it."""
    if endpoint.failed_attempts == FAILS_AFTER:
        endpoint.alert_at = endpoint.failing_since + FAILS_FOR


def endpoint_recovered(endpoint: CallbackEndpoint, *, at: datetime) -> None:
    """Tell the owner, if they know that it failed."""
    incident = _open(endpoint)
    if incident is not None:
        incident.ended_at = at
        incident.save(update_fields=["ended_at"])
        notices.tell(incident, Event.RECOVERED)


def tell_of_endpoints() -> None:
    """Tell the owners of endpoints that have failed for long enough."""
    due = CallbackEndpoint.objects.filter(alert_at__lte=timezone.now()).order_by("alert_at")
    ids = list(due.values_list("id", flat=True)[:_AT_ONCE])
    each_alone(ids, _endpoint_tell, what="alert about an endpoint", back_off=_put_off)


def _endpoint_tell(endpoint_id: int) -> bool:
    account = _lock_of(endpoint_id)
    if account is None:
        return False
    now = timezone.now()
    found = CallbackEndpoint.objects.with_waiting().filter(pk=endpoint_id, alert_at__lte=now)
    endpoint = found.first()
    if endpoint is None:
        return False
    same = _told(account.pk, Incident.Kind.ENDPOINT, now - ENDPOINT_EVERY)
    last = same.filter(subject=endpoint.origin).first()
    endpoint.alert_at = (
        last.told_at + ENDPOINT_EVERY
        if last and last.told_at
        else _next_place(account.pk, Incident.Kind.ENDPOINT, now)
    )
    endpoint.save(update_fields=["alert_at"])
    if endpoint.alert_at is not None:
        return False
    incident = _begin(
        account.pk,
        Incident.Kind.ENDPOINT,
        endpoint.origin,
        began_at=endpoint.failing_since,
        now=now,
        told_at=now,
        facts={
            "endpoint": endpoint.last_url,
            "origin": shown(endpoint.origin),
            "result": endpoint.last_result,
            "attempts": endpoint.failed_attempts,
            "waiting": notices.counted(endpoint.waiting),  # type: ignore[attr-defined]
        },
    )
    notices.tell(incident, Event.FAILED)
    return True


def _put_off(endpoint_id: int) -> None:
    later = timezone.now() + _PUT_OFF
    CallbackEndpoint.objects.filter(pk=endpoint_id).update(alert_at=later)


def _open(endpoint: CallbackEndpoint) -> Incident | None:
    found = Incident.objects.filter(
        account_id=endpoint.account_id,
        kind=Incident.Kind.ENDPOINT,
        subject=endpoint.origin,
        ended_at=None,
    )
    return found.first()


# Callbacks that are given up


def callback_given_up(delivery: CallbackDelivery) -> None:
    """Tell the owner of a callback that was not delivered. The caller holds the account's lock."""
    now, subject = timezone.now(), origin_of(delivery.url)
    kinds = [Incident.Kind.ENDPOINT, Incident.Kind.GIVEN_UP]
    is_known = Q(told_at__gt=now - DAY) | Q(ended_at=None)
    of_it = Incident.objects.filter(account_id=delivery.account_id, subject=subject)
    if of_it.filter(is_known, kind__in=kinds).exists():
        return
    if _next_place(delivery.account_id, Incident.Kind.GIVEN_UP, now) is not None:
        return
    incident = _begin(
        delivery.account_id,
        Incident.Kind.GIVEN_UP,
        subject,
        began_at=delivery.created_at,
        now=now,
        told_at=now,
        ended_at=now,
        facts={
            "endpoint": address_of(delivery.url),
            "origin": shown(subject),
            "result": delivery.last_result,
            "attempts": delivery.attempts,
            "kind": delivery.kind,
            "call": delivery.call_id,
        },
    )
    notices.tell(incident, Event.FAILED)


# Calls


def call_ended(call: Call) -> None:
    """Queue a job for a call that failed, or that may end an incident, in the caller's transaction.

    A call that goes well while nothing fails, as nearly all do, costs one look at an index.
    """
    if is_test_sid(call.call_sid or ""):
        return
    if _is_news(call) or (call.outcome == "completed" and _failing_calls(call).exists()):
        defer(CALL_TASK, call_id=call.pk)


@transaction.atomic
def call_consider(call_id: str) -> None:
    """Begin, continue or end the incident that an ended call belongs to."""
    call = Call.objects.filter(pk=call_id).first()
    if call is None:
        return
    Account.objects.select_for_update(no_key=True).get(pk=call.account_id)
    call.refresh_from_db()
    if call.outcome == "completed":
        _calls_recovered(call)
    if _is_news(call):
        _call_failed(call)


def _is_news(call: Call) -> bool:
    """Return True for a call that failed, and for a completed one in which a tool did."""
    return call.outcome == "failed" or call.error_code in _TOOL_PROBLEMS


def _call_failed(call: Call) -> None:
    now, at = timezone.now(), call.ended_at or timezone.now()
    code = call.error_code or call.ended_reason
    same = Incident.objects.filter(
        account_id=call.account_id,
        kind=Incident.Kind.CALLS,
        subject=_subject(call.numbers[0], code),
    )
    incident = same.filter(ended_at=None).first()
    if incident is None:
        if same.filter(ended_at__gte=at).exists():
            return  # A later call went well.
        incident = _begin(
            call.account_id,
            Incident.Kind.CALLS,
            _subject(call.numbers[0], code),
            began_at=at,
            now=at,
            facts={},
            told_at=None,
        )
    incident.last_at = max(incident.last_at, at)
    is_news = incident.told_at is None and _may_tell_of(call.account_id, code, now)
    if is_news:
        incident.told_at = now
        incident.facts = _facts_of(call, code)
    incident.save(update_fields=["last_at", "told_at", "facts"])
    if is_news:
        notices.tell(incident, Event.FAILED)


def _facts_of(call: Call, code: str) -> dict[str, Any]:
    number, other = call.numbers
    kinds = CallEvent.objects.filter(call=call, kind__in=TELLING)
    problem = problem_of(code, list(kinds.order_by("at", "id")))
    return {
        "number": number,
        # Whoever sends a webhook in Twilio's name chooses it: a link would look like ours.
        "other": other if is_phone_number(other) else UNKNOWN_NUMBER,
        "direction": call.direction,
        "code": code,
        "is_tool": code in _TOOL_PROBLEMS,
        "what": plain(problem.what),
        "specifics": problem.specifics,
        "remedy": plain(problem.remedy),
        "at": iso(call.ended_at or timezone.now()),
        "call": call.pk,
    }


def _may_tell_of(account_id: str, code: str, now: datetime) -> bool:
    told = _told(account_id, Incident.Kind.CALLS, now - DAY)
    is_known = any(each.facts.get("code") == code for each in told[:MOST_A_DAY])
    return not is_known and _next_place(account_id, Incident.Kind.CALLS, now) is None


def _calls_recovered(call: Call) -> None:
    at = call.ended_at or timezone.now()
    others = _failing_calls(call).exclude(subject=_subject(call.numbers[0], call.error_code))
    # Jobs run in any order: a call that failed later goes on failing.
    ended = list(others.filter(last_at__lte=at).order_by("began_at", "pk"))
    Incident.objects.filter(pk__in=[each.pk for each in ended]).update(ended_at=at)
    known = [each for each in ended if each.told_at and at - each.began_at > RECOVERY_AFTER]
    if known:  # One message for all codes.
        first = known[0]
        first.ended_at = at
        notices.tell(first, Event.RECOVERED)


def _failing_calls(call: Call) -> QuerySet[Incident]:
    """Return the open incidents of the call's number. An account has few open ones."""
    return Incident.objects.filter(
        account_id=call.account_id,
        kind=Incident.Kind.CALLS,
        ended_at=None,
        subject__startswith=_subject(call.numbers[0], ""),
    )


def _subject(number: str, code: str) -> str:
    return f"{number} {code}"


# All kinds


def _begin(
    account_id: str,
    kind: Incident.Kind,
    subject: str,
    *,
    began_at: datetime,
    now: datetime,
    facts: dict[str, Any],
    told_at: datetime | None,
    ended_at: datetime | None = None,
) -> Incident:
    return Incident.objects.create(
        account_id=account_id,
        kind=kind,
        subject=subject,
        facts=facts,
        began_at=began_at,
        last_at=now,
        told_at=told_at,
        ended_at=ended_at,
    )


def _lock_of(endpoint_id: int) -> Account | None:
    """Lock the account of an endpoint, as a decision about its deliveries does."""
    theirs = CallbackEndpoint.objects.filter(pk=endpoint_id).values("account_id")
    return Account.objects.select_for_update(no_key=True).filter(pk__in=theirs).first()


def _told(account_id: str, kind: Incident.Kind, after: datetime) -> QuerySet[Incident]:
    """Return the incidents of a kind that the owner was told about since then, newest first."""
    told = Incident.objects.filter(account_id=account_id, kind=kind, told_at__gt=after)
    return told.order_by("-told_at")


def _next_place(account_id: str, kind: Incident.Kind, now: datetime) -> datetime | None:
    """Return when the owner may be told of another incident; None if they may be told now."""
    told = [each.told_at for each in _told(account_id, kind, now - DAY)[:MOST_A_DAY]]
    last = told[-1] if len(told) == MOST_A_DAY else None
    return last + DAY if last else None


def forget() -> None:
    """Close incidents without a failure for a week, and delete those that ended long ago."""
    now = timezone.now()
    held = CallbackDelivery.objects.filter(held_by=OuterRef("pk"))
    stale = CallbackEndpoint.objects.filter(~Exists(held), failed_at__lt=now - STALE_AFTER)
    ids = list(stale.order_by("failed_at").values_list("id", flat=True)[:_AT_ONCE])
    each_alone(ids, _endpoint_forget, what="deletion of an endpoint", back_off=lambda _: None)
    quiet = Incident.objects.filter(kind=Incident.Kind.CALLS, ended_at=None)
    quiet.filter(last_at__lt=now - STALE_AFTER).update(ended_at=now)
    old = Incident.objects.filter(last_at__lt=now - KEPT_FOR, ended_at__isnull=False)
    while Incident.objects.filter(pk__in=old.values("pk")[:_AT_ONCE]).delete()[0]:
        pass


def _endpoint_forget(endpoint_id: int) -> bool:
    if _lock_of(endpoint_id) is None:
        return False
    before = timezone.now() - STALE_AFTER
    endpoint = CallbackEndpoint.objects.filter(pk=endpoint_id, failed_at__lt=before).first()
    if endpoint is None:
        return False
    if incident := _open(endpoint):
        incident.ended_at = timezone.now()
        incident.save(update_fields=["ended_at"])
    endpoint.delete()
    return True
