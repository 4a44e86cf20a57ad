"""Which invoice pays for a minute: no database, no Stripe."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from billing.metering.periods import (
    Place,
    Term,
    Window,
    has_last_invoice,
    place_late,
    term_at,
    term_of,
    windows_of,
)
from billing.tests.metered import METER, invoice, subscription, utc

BEGINS = utc(2026, 3, 10, 9, 30, 15)
MARCH = (BEGINS, utc(2026, 4, 10, 9, 30, 15))
APRIL = (utc(2026, 4, 10, 9, 30, 15), utc(2026, 5, 10, 9, 30, 15))
NOW = utc(2026, 4, 10, 10)
SECOND = timedelta(seconds=1)


def term(period: tuple[datetime, datetime] = APRIL, **fields: Any) -> Term:
    found = term_of(subscription(begins=BEGINS, period=period, **fields), METER)
    assert found
    return found


def ended(at: datetime, period: tuple[datetime, datetime] = MARCH) -> Term:
    return term(period, ended_at=int(at.timestamp()))


class TestTerm:
    def test_a_running_period_will_be_billed(self) -> None:
        assert term().will_bill(APRIL[0])
        assert term().will_bill(NOW)

    def test_a_period_that_is_over_may_be_final(self) -> None:
        assert not term().will_bill(APRIL[0] - SECOND)

    def test_what_stripe_has_not_told_us_yet_is_the_next_period(self) -> None:
        """The subscription was renewed a moment ago."""
        assert term(MARCH).will_bill(MARCH[1] + SECOND)

    def test_nothing_is_billed_after_a_cancellation_that_is_to_come(self) -> None:
        canceled = term(cancel_at=int(APRIL[1].timestamp()))
        assert canceled.will_bill(APRIL[1] - SECOND)
        assert not canceled.will_bill(APRIL[1])

    def test_a_subscription_that_has_ended_bills_no_more(self) -> None:
        assert not ended(MARCH[1]).will_bill(MARCH[1] - SECOND)

    def test_a_subscription_to_something_else_is_none(self) -> None:
        assert term_of(subscription(meter="mtr_of_another_product"), METER) is None

    def test_the_term_is_the_one_that_began_last(self) -> None:
        first, second = ended(MARCH[1]), term_of(subscription(begins=NOW), METER)
        assert second
        assert term_at(NOW - SECOND, [second, first]) == first
        assert term_at(NOW, [first, second]) == second
        assert term_at(BEGINS - SECOND, [first, second]) is None


class TestLate:
    def place(self, at: datetime, of: Term, latest: Any, now: datetime = NOW) -> Place:
        return place_late(at, of, latest, now=now)

    def test_a_draft_takes_what_belongs_to_it(self) -> None:
        at = MARCH[1] - SECOND
        assert self.place(at, term(), invoice("draft", MARCH[0])) == Place(at, True)

    @pytest.mark.parametrize("status", ["open", "paid", "void", "uncollectible"])
    def test_what_is_late_for_it_is_billed_with_the_next_period(self, status: str) -> None:
        at = MARCH[1] - SECOND
        assert self.place(at, term(), invoice(status, MARCH[0])) == Place(APRIL[0], True)

    def test_a_draft_that_will_be_final_in_a_moment_takes_nothing(self) -> None:
        at, soon = MARCH[1] - SECOND, NOW + timedelta(minutes=4)
        latest = invoice("draft", MARCH[0], finalizes_at=soon)
        assert self.place(at, term(), latest) == Place(APRIL[0], True)
        assert self.place(at, term(), latest, now=NOW - timedelta(hours=1)) == Place(at, True)

    def test_a_draft_of_a_later_period_does_not_take_it(self) -> None:
        may = (APRIL[1], utc(2026, 6, 10, 9, 30, 15))
        at = MARCH[1] - SECOND
        assert self.place(at, term(may), invoice("draft", APRIL[0])) == Place(may[0], True)

    def test_it_is_billed_when_stripe_says_that_the_period_runs(self) -> None:
        assert self.place(NOW, term(), invoice("paid", MARCH[0])) == Place(NOW, True)

    def test_it_is_billed_without_an_invoice(self) -> None:
        assert self.place(MARCH[0], term(), None) == Place(APRIL[0], True)

    def test_the_last_invoice_takes_a_call_that_ended_after_the_subscription(self) -> None:
        at, last = MARCH[1] + timedelta(minutes=3), MARCH[1] - SECOND
        draft = invoice("draft", MARCH[0])
        assert self.place(at, ended(MARCH[1]), draft) == Place(last, True)
        assert self.place(last, ended(MARCH[1]), draft) == Place(last, True)

    @pytest.mark.parametrize("latest", [None, invoice("paid", MARCH[0])])
    def test_nobody_pays_when_the_last_invoice_is_final(self, latest: Any) -> None:
        for at in (MARCH[1] - SECOND, MARCH[1] + SECOND):
            assert self.place(at, ended(MARCH[1]), latest) == Place(at, False)

    def test_nobody_pays_after_an_end_that_stripe_has_not_come_to(self) -> None:
        ending = term(MARCH, cancel_at=int(MARCH[1].timestamp()))
        at = MARCH[1] + SECOND
        assert self.place(at, ending, invoice("paid", MARCH[0])) == Place(at, False)


class TestLastInvoice:
    def test_it_is_about_the_last_period(self) -> None:
        last = invoice("paid", APRIL[0], end=NOW)
        assert has_last_invoice(ended(NOW, APRIL), last)

    @pytest.mark.parametrize(
        "latest", [None, invoice("paid", MARCH[0], end=MARCH[1]), invoice("paid", NOW, end=BEGINS)]
    )
    def test_one_that_began_the_period_is_none(self, latest: Any) -> None:
        assert not has_last_invoice(ended(NOW, APRIL), latest)


class TestWindows:
    def test_the_running_period_is_compared(self) -> None:
        now = utc(2026, 4, 20, 12, 0, 30)
        assert windows_of(term(), now=now) == [
            Window(utc(2026, 4, 10, 9, 30), utc(2026, 4, 20, 12, 1))
        ]

    def test_so_is_one_that_has_ended_in_the_past_days(self) -> None:
        now = utc(2026, 4, 12, 12)
        assert windows_of(term(), now=now) == [
            Window(utc(2026, 4, 10, 9, 30), utc(2026, 4, 12, 12)),
            Window(utc(2026, 3, 10, 9, 30), utc(2026, 4, 10, 9, 31)),
        ]

    def test_a_period_that_begins_by_stripes_clock_alone_is_not(self) -> None:
        now = APRIL[0] - SECOND
        assert windows_of(term(), now=now) == [
            Window(utc(2026, 3, 10, 9, 30), utc(2026, 4, 10, 9, 31))
        ]

    def test_it_has_the_name_that_it_had_while_it_ran(self) -> None:
        running = windows_of(term(MARCH), now=MARCH[1] - SECOND)[0]
        ended = windows_of(term(APRIL), now=MARCH[1] + SECOND)[1]
        assert running == ended

    def test_a_first_period_has_none_before_it(self) -> None:
        assert len(windows_of(term(MARCH), now=BEGINS + timedelta(days=1))) == 1

    @pytest.mark.parametrize(
        ("period_begins", "previous"),
        [
            (utc(2026, 2, 28), utc(2026, 1, 31)),
            (utc(2026, 3, 31), utc(2026, 2, 28)),
            (utc(2026, 1, 31), utc(2025, 12, 31)),
            (utc(2024, 3, 31), utc(2024, 2, 29)),
        ],
    )
    def test_short_months(self, period_begins: datetime, previous: datetime) -> None:
        of = subscription(
            begins=utc(2023, 1, 31),
            period=(period_begins, period_begins + timedelta(days=28)),
            anchor=utc(2023, 1, 31),
        )
        found = term_of(of, METER)
        assert found
        assert windows_of(found, now=period_begins + timedelta(days=1))[1].start == previous

    def test_a_last_period_is_compared_for_a_while(self) -> None:
        end = utc(2026, 4, 2, 8)
        window = Window(utc(2026, 3, 10, 9, 30), end)
        assert windows_of(ended(end), now=end + timedelta(days=6)) == [window]
        assert windows_of(ended(end), now=end + timedelta(days=8)) == []

    def test_it_goes_from_a_full_minute_to_a_full_minute(self) -> None:
        minute = Window(utc(2026, 4, 1, 12), utc(2026, 4, 1, 12, 1))
        assert Window.around(minute.start, minute.end) == minute
        assert Window.around(minute.start + SECOND, minute.end - SECOND) == minute
        assert Window.around(minute.start, minute.start + timedelta(microseconds=1)) == minute
