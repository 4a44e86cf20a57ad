"""Observers learn of facts, and harm nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from core.observers import observe, tell


@dataclass(frozen=True)
class Rang:
    times: int


class RangLoudly(Rang):
    pass


@pytest.fixture
def heard():
    heard: list[Rang] = []
    end = observe(Rang, heard.append)
    yield heard
    end()


def test_an_observer_is_told_of_its_class_only(heard):
    tell(Rang(1))
    tell(RangLoudly(2))
    tell("Rang")
    assert heard == [Rang(1)]


def test_an_observer_that_fails_is_logged_and_stops_nothing(heard, logged):
    def fails(fact):
        raise LookupError("no bell")

    end = observe(Rang, fails)
    second: list[Rang] = []
    end_second = observe(Rang, second.append)
    tell(Rang(1))
    end()
    end_second()
    assert heard == second == [Rang(1)]
    assert "observer_failed" in logged()
    assert "no bell" in logged()


def test_an_observer_can_end_what_it_began(heard):
    second: list[Rang] = []
    observe(Rang, second.append)()
    tell(Rang(1))
    assert (heard, second) == ([Rang(1)], [])
