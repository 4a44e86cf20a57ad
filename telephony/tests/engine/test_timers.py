"""The timers of a call."""

from telephony.engine.timers import Timer, Timers, ToolTimer

EARLY, LATE, TOOL = Timer.DIGITS, Timer.LENGTH, ToolTimer("call_1")


def _timers():
    timers = Timers()
    for key, at in ((LATE, 9.0), (TOOL, 5.0), (EARLY, 2.0)):
        timers.set(key, at)
    return timers


def test_each_timer_expires_once_the_earliest_first():
    timers = _timers()
    assert timers.next() == 2.0
    assert timers.due(1.9) == []
    assert timers.due(5.0) == [EARLY, TOOL]
    assert timers.due(5.0) == []
    assert timers.next() == 9.0


def test_a_timer_can_be_reset_or_cleared():
    timers = _timers()
    timers.set(EARLY, 20.0)
    timers.clear(LATE)
    timers.clear(Timer.SPEECH)  # which is not set
    assert timers.due(30.0) == [TOOL, EARLY]


def test_all_timers_can_be_cleared():
    timers = _timers()
    timers.clear_all()
    assert timers.next() is None


def test_all_timers_except_those_of_tools_can_be_cleared():
    timers = _timers()
    timers.clear_all(but=ToolTimer)
    assert timers.due(30.0) == [TOOL]
