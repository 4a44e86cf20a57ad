"""The calls of a draining engine leave it evenly, not all at once."""

from __future__ import annotations

from collections import Counter

import pytest

from telephony.voice.departures import AT_REST_WITHIN_S, LONGEST_S, SHORTEST_S, Departures

EVERY_S = 0.2


def leave(count, *, at_rest=False, departures=None):
    """Drain an engine with calls that are always, or never, at a turn boundary.

    Return when each call leaves.
    """
    departures = departures or Departures(EVERY_S)
    calls, left, now = [f"call {number}" for number in range(count)], {}, 0.0
    while calls:
        departures.expect(calls, now)
        ready = [call for call in calls if at_rest or departures.is_late(call, now)]
        for call in departures.next(ready):
            calls.remove(call)
            left[call] = now
        now += EVERY_S
        assert now < 60
    return left


@pytest.mark.parametrize("count", [1, 3, 75, 700])
def test_calls_without_a_turn_boundary_leave_one_by_one(count):
    left = leave(count)
    assert list(left) == [f"call {number}" for number in range(count)]
    assert max(left.values()) == pytest.approx(LONGEST_S, abs=EVERY_S)
    assert min(left.values()) >= SHORTEST_S
    looks = (LONGEST_S - SHORTEST_S) / EVERY_S
    assert max(Counter(left.values()).values()) <= -(-count // looks) + 1


@pytest.mark.parametrize("count", [1, 3, 75, 700])
def test_calls_at_a_turn_boundary_leave_soon_but_not_all_at_once(count):
    left = leave(count, at_rest=True)
    assert left["call 0"] == 0.0
    assert max(left.values()) <= AT_REST_WITHIN_S
    assert max(Counter(left.values()).values()) <= -(-count // (AT_REST_WITHIN_S / EVERY_S))


def test_a_call_that_connects_during_the_drain_has_its_own_time():
    departures = Departures(EVERY_S)
    departures.expect(["early"], 0.0)
    departures.expect(["early", "late"], 5.0)
    assert departures.is_late("early", LONGEST_S)
    assert not departures.is_late("late", LONGEST_S)
    assert departures.is_late("late", 5.0 + LONGEST_S)
