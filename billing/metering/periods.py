"""Decides which invoice pays for a minute. Pure: Stripe's JSON and times in, times out.

Stripe's meter accepts events of the past weeks. But an invoice only counts events within its
period that have arrived when it is finalized: by default, an hour after the period ends. An event
that arrives later is on no invoice, without any error.
https://docs.stripe.com/billing/subscriptions/usage-based/configure-grace-period
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

JSON = Mapping[str, Any]

# An invoice that is finalized sooner may not include what is sent now.
_ENOUGH_TIME = timedelta(minutes=5)
# How long after its end a period is still compared. Invoices are final after three days.
_COMPARED_AFTER_END = timedelta(days=7)
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of whole minutes, as Stripe counts them."""

    start: datetime
    end: datetime

    @classmethod
    def around(cls, start: datetime, end: datetime) -> Window:
        """Return the shortest window from start to end; a full minute ``end`` is excluded."""
        return cls(_full_minute(start), _full_minute(end + _MINUTE - timedelta(microseconds=1)))


@dataclass(frozen=True, slots=True)
class Term:
    """The time in which a subscription pays for minutes, and its current (or last) period."""

    subscription_id: str
    begins: datetime
    period_begins: datetime
    period_ends: datetime
    anchor_day: int  # of the month: when a period begins
    ends: datetime | None  # in the past or the future
    is_over: bool

    def covers(self, at: datetime) -> bool:
        return self.begins <= at and (self.ends is None or at < self.ends)

    def will_bill(self, at: datetime) -> bool:
        """Return True if the invoice for that time is still to come."""
        return not self.is_over and self.period_begins <= at and self.covers(at)


@dataclass(frozen=True, slots=True)
class Place:
    """The time to report an event at, and whether an invoice will include it."""

    at: datetime
    is_billed: bool


def terms_of(subscriptions: Iterable[JSON], meter_id: str) -> tuple[Term, ...]:
    """Return the terms of the subscriptions that contain a price on our meter."""
    terms = (term_of(subscription, meter_id) for subscription in subscriptions)
    return tuple(term for term in terms if term)


def term_of(subscription: JSON, meter_id: str) -> Term | None:
    item = next((i for i in subscription["items"]["data"] if _is_on(meter_id, i)), None)
    if item is None:
        return None
    ends = subscription.get("ended_at") or subscription.get("cancel_at")
    return Term(
        subscription_id=subscription["id"],
        begins=_time(subscription["start_date"]),
        period_begins=_time(item["current_period_start"]),
        period_ends=_time(item["current_period_end"]),
        anchor_day=_time(subscription["billing_cycle_anchor"]).day,
        ends=_time(ends) if ends else None,
        is_over=bool(subscription.get("ended_at")),
    )


def term_at(at: datetime, terms: Iterable[Term]) -> Term | None:
    """Return the latest term that had begun at that time."""
    begun = [term for term in terms if term.begins <= at]
    return max(begun, key=lambda term: term.begins, default=None)


def place_late(at: datetime, term: Term, latest_invoice: JSON | None, *, now: datetime) -> Place:
    """Return the place of an event that is not in the term's current period.

    A draft invoice takes the events of its period. Else the current period pays; if there is none
    any more, nobody does. A call that began before the subscription ended, and ended after it,
    belongs to the last period.
    """
    if term.will_bill(at):
        return Place(at, is_billed=True)
    is_open = latest_invoice is not None and _is_open(latest_invoice, now)
    if term.is_over:
        last = term.ends - _SECOND if term.ends else at
        return Place(min(at, last), is_billed=True) if is_open else Place(at, is_billed=False)
    if not term.covers(at):
        return Place(at, is_billed=False)
    if is_open and latest_invoice and at >= _time(latest_invoice["period_start"]):
        return Place(at, is_billed=True)
    return Place(term.period_begins, is_billed=True)


def has_last_invoice(term: Term, latest_invoice: JSON | None) -> bool:
    """Return True if an ended subscription has an invoice for its last period; not all have."""
    return latest_invoice is not None and _time(latest_invoice["period_end"]) > term.period_begins


def windows_of(term: Term, *, now: datetime) -> list[Window]:
    """Return the periods to compare: the current one and a recent one."""
    if term.is_over:
        end = term.ends or term.period_ends
        is_recent = now - end < _COMPARED_AFTER_END
        return [Window.around(term.period_begins, end)] if is_recent else []
    windows = []
    if term.period_begins < now:
        windows.append(Window.around(term.period_begins, min(now, term.period_ends)))
    if now - term.period_begins < _COMPARED_AFTER_END and term.begins < term.period_begins:
        windows.append(Window.around(_previous_begin(term), term.period_begins))
    return windows


def _previous_begin(term: Term) -> datetime:
    last_month = term.period_begins.replace(day=1) - timedelta(days=1)
    days = monthrange(last_month.year, last_month.month)[1]
    return max(term.begins, last_month.replace(day=min(term.anchor_day, days)))


def _is_on(meter_id: str, item: JSON) -> bool:
    recurring = item["price"].get("recurring") or {}
    return recurring.get("meter") == meter_id


def _is_open(invoice: JSON, now: datetime) -> bool:
    """Return True if an invoice will include what is sent now."""
    finalized_at = invoice.get("automatically_finalizes_at")
    return invoice["status"] == "draft" and (
        finalized_at is None or _time(finalized_at) > now + _ENOUGH_TIME
    )


def _full_minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
