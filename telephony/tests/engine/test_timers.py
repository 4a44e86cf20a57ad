"""Named points in time."""

from telephony.engine.timers import Timers


def _timers():
    timers = Timers()
    for name, at in (("late", 9.0), ("tool 1", 5.0), ("early", 2.0)):
        timers.set(name, at)
    return timers


def test_they_ring_once_when_their_time_has_come_the_earliest_first():
    timers = _timers()
    assert timers.next() == 2.0
    assert timers.due(1.9) == []
    assert timers.due(5.0) == ["early", "tool 1"]
    assert timers.due(5.0) == []
    assert timers.next() == 9.0


def test_one_is_set_anew_or_cleared():
    timers = _timers()
    timers.set("early", 20.0)
    timers.clear("late")
    timers.clear("unheard of")
    assert timers.due(30.0) == ["tool 1", "early"]


def test_all_are_cleared():
    timers = _timers()
    timers.clear_all()
    assert timers.next() is None


def test_all_are_cleared_but_those_of_a_kind():
    timers = _timers()
    timers.clear_all(but="tool ")
    assert timers.due(30.0) == ["tool 1"]
