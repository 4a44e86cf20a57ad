"""The figures depend on the machine; the benchmark must find every fault anyway."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.urls import reverse

from accounts.models import Account
from dashboard.rendering import SECTIONS
from devtools.bench.pages import Comparison, Cost, client_of, compare, line_of
from devtools.bench.places import places_of
from sandbox.filling import fill

GOOD = Comparison("overview", 200, many=Cost(12.0, 5), few=Cost(10.0, 5))


@pytest.mark.django_db
class TestCompare:
    def test_it_works(self, alice: Account, bob: Account) -> None:
        fill(alice, calls=150)
        fill(bob, calls=10)
        found = {each.name: each for each in compare(alice, bob, times=1)}
        for name in ("overview", "calls in progress", "numbers", "settings", "API: usage"):
            assert found[name].status == 200
            assert found[name].many.ms > 0
            assert found[name].many.queries == found[name].few.queries > 1
        assert {each.status for each in found.values()} <= {200, 404}
        assert not any(each.asks_more for each in found.values())

    def test_every_section_is_measured(self, alice: Account) -> None:
        fill(alice, calls=10)
        measured = {path.rstrip("?") for path in places_of(alice).values()}
        assert {reverse(name) for name, _ in SECTIONS} <= measured

    def test_pages_are_the_accounts_own(self, alice: Account, bob: Account) -> None:
        fill(alice, calls=10)
        path = places_of(alice)["API: the newest call"]
        assert client_of(alice).get(path).status_code == 200
        assert client_of(bob).get(path).status_code == 404


class TestLines:
    def test_a_good_page(self) -> None:
        assert GOOD.is_good
        line = " ".join(line_of(GOOD).split())
        assert line == "overview 12.0 ms 10.0 ms 1.20x queries 5 and 5 ok"

    def test_a_list_that_is_empty_with_few_calls_spares_queries(self) -> None:
        assert replace(GOOD, many=Cost(12.0, 6)).is_good

    def test_a_page_that_is_missing(self) -> None:
        assert "skipped" in line_of(replace(GOOD, status=404))

    @pytest.mark.parametrize(
        ("faulty", "said"),
        [
            (replace(GOOD, status=500), "FAILED: it answers 500"),
            (replace(GOOD, status=302), "FAILED: it answers 302"),
            (replace(GOOD, many=Cost(100.0, 5)), "SLOW: over 100 ms"),
            (replace(GOOD, many=Cost(12.0, 8)), "ASKS MORE"),
        ],
    )
    def test_a_fault_is_said(self, faulty: Comparison, said: str) -> None:
        assert not faulty.is_good
        assert said in line_of(faulty)
