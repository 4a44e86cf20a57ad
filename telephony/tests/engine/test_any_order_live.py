"""No order of events hangs a call with a Live model, or causes a repeated action.

Each test runs a quarter of the examples of those in ``test_any_order``.
"""

from __future__ import annotations

from hypothesis import given, note
from hypothesis import strategies as st

from telephony.engine.events import ModelReady
from telephony.tests.engine.invariants import CheckedConversation
from telephony.tests.engine.test_any_order import ending, move, moving, plans, step
from telephony.tests.engine.test_live import MESSAGES

MODEL = "gpt-live-1.1"
live_step = step | st.tuples(st.just("hear"), st.sampled_from(MESSAGES))


def calling(plan):
    call = CheckedConversation(model=MODEL, **plan)
    call.receive(ModelReady())
    call.hear(MESSAGES[0])
    return call


@moving
@given(plans, st.lists(live_step, max_size=20), st.none() | ending)
def test_a_call_ends_after_any_order_of_events(plan, steps, end):
    note(f"{plan} {steps}")
    call = calling(plan)
    call.take(steps)
    if end is not None:
        call.receive(end)
    call.end()


@moving
@given(plans, st.lists(live_step | move, max_size=20))
def test_a_call_that_moves_ends_after_any_order_of_events(plan, steps):
    note(f"{plan} {steps}")
    call = calling(plan)
    call.take(steps)
    call.end()


@moving
@given(plans, st.lists(live_step, max_size=20))
def test_every_queued_request_is_sent(plan, steps):
    note(f"{plan} {steps}")
    call = calling(plan)
    call.take(steps)
    call.cooperate()
    call.end()
