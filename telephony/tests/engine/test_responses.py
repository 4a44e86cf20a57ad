"""The queue of responses: queued, requested, begun and queued again."""

from __future__ import annotations

import pytest

from telephony.engine.responses import OWED, PLAIN, Request, ResponseQueue

HELLO = Request("Say hello.")
SORRY = Request("Say sorry.")


def queue(*wanted):
    """Return a queue with these requests, in order."""
    responses = ResponseQueue()
    for request in wanted:
        responses.want(request)
    return responses


def asked(responses, now=0.0, *, speaking=False):
    """Return the request to send now, or None."""
    taken = responses.take(now, speaking=speaking)
    return taken and taken.request


def all_asked(responses):
    """Let the model begin and end all queued responses; return their requests in order."""
    requests = []
    while request := asked(responses, now=1_000.0):
        requests.append(request)
        responses.started(f"r{len(requests)}")
        responses.done(f"r{len(requests)}")
    return requests


@pytest.mark.parametrize("is_aside", [False, True])
def test_what_has_begun_does_not_begin_in_another_way(is_aside):
    responses = queue()
    assert responses.started("r1", is_aside=is_aside)
    assert not responses.started("r1", is_aside=not is_aside)
    assert responses.done("r1")
    assert not responses.is_busy


class TestWanted:
    def test_plain_requests_are_merged(self):
        assert all_asked(queue(PLAIN, PLAIN, PLAIN)) == [PLAIN]

    def test_requests_with_instructions_keep_their_order(self):
        wanted = [PLAIN, HELLO, SORRY, HELLO]
        assert all_asked(queue(*wanted)) == wanted

    def test_each_request_has_its_own_id(self):
        responses = queue(HELLO, SORRY)
        assert responses.take(0.0, speaking=False).id == "sh_response_1"
        responses.started("r1")
        responses.done("r1")
        assert responses.take(0.0, speaking=False).id == "sh_response_2"

    def test_requests_are_sent_one_at_a_time(self):
        responses = queue(HELLO, SORRY)
        assert asked(responses) == HELLO
        assert asked(responses) is None
        responses.started("r1")
        assert asked(responses) is None
        responses.done("r1")
        assert asked(responses) == SORRY

    def test_nothing_is_sent_while_the_caller_speaks(self):
        responses = queue(HELLO)
        assert asked(responses, speaking=True) is None
        assert asked(responses) == HELLO

    def test_the_queue_is_busy_from_the_request_to_the_end_of_the_response(self):
        responses = ResponseQueue()
        assert not responses.is_busy
        responses.want()
        assert responses.is_busy
        asked(responses)
        assert responses.is_busy
        responses.started("r1")
        assert responses.is_busy
        responses.done("r1")
        assert not responses.is_busy


class TestHeld:
    def test_for_two_seconds_after_the_caller_has_spoken(self):
        responses = queue(HELLO)
        responses.speech_stopped(10.0)
        assert asked(responses, 11.9) is None
        assert responses.held_until == 12.0
        assert asked(responses, 12.0) == HELLO
        assert responses.held_until is None

    def test_until_the_latest_of_several_times(self):
        responses = queue(HELLO)
        responses.hold_until(5.0)
        responses.hold_until(3.0)
        assert asked(responses, 4.0) is None

    def test_until_the_model_begins_by_itself(self):
        responses = ResponseQueue()
        responses.speech_stopped(10.0)
        responses.started("r1")
        responses.done("r1")
        responses.want(HELLO)
        assert asked(responses, 10.5) == HELLO

    def test_nothing_is_held_without_a_request(self):
        responses = ResponseQueue()
        responses.speech_stopped(10.0)
        assert asked(responses, 11.0) is None
        assert responses.held_until is None


class TestBegun:
    def test_the_models_own_response_covers_the_items_it_has_added(self):
        responses = queue(PLAIN, HELLO)
        responses.item_sent("sh_1")
        responses.item_added("sh_1")
        responses.started("r1")
        responses.done("r1")
        assert all_asked(responses) == [HELLO]

    def test_the_models_own_response_is_the_one_that_is_owed(self):
        responses = queue(OWED)
        responses.started("r1")
        responses.done("r1")
        assert all_asked(responses) == []

    def test_the_models_own_response_replaces_a_plain_request(self):
        responses = queue(PLAIN)
        responses.started("r1")
        responses.done("r1")
        assert responses.ended == PLAIN
        responses.started("r2")
        responses.done("r2")
        assert responses.ended is None

    def test_the_models_own_response_does_not_cover_an_item_it_has_not_added(self):
        responses = queue(PLAIN)
        responses.item_sent("sh_1")
        responses.started("r1")
        responses.done("r1")
        assert all_asked(responses) == [PLAIN]

    def test_what_a_voice_says_aside_covers_only_what_is_owed(self):
        responses = queue(OWED, PLAIN)
        responses.started("a1", is_aside=True)
        assert asked(responses) is None
        responses.done("a1")
        assert all_asked(responses) == [PLAIN]

    def test_a_requested_response_leaves_other_requests_queued(self):
        responses = queue(HELLO, PLAIN)
        asked(responses)
        responses.started("r1")
        responses.done("r1")
        assert all_asked(responses) == [PLAIN]

    def test_a_response_that_has_ended_does_not_begin(self):
        responses = ResponseQueue()
        assert responses.started("r1") is True
        responses.done("r1")
        assert responses.started("r1") is False
        assert not responses.active

    def test_a_response_without_an_id_is_active_until_any_response_ends(self):
        responses = ResponseQueue()
        responses.started("")
        assert responses.active
        responses.done("r9")
        assert not responses.active


class TestEnded:
    def test_a_response_ends_once(self):
        responses = ResponseQueue()
        responses.started("r1")
        assert responses.done("r1") is True
        assert responses.done("r1") is False
        assert responses.done("") is True
        assert responses.done("") is True

    @pytest.mark.parametrize("response_id", ["r1", ""])
    def test_the_end_of_the_active_response(self, response_id):
        responses = ResponseQueue()
        responses.started("r1")
        responses.done(response_id)
        assert not responses.active

    def test_the_end_of_another_response_changes_nothing(self):
        responses = ResponseQueue()
        responses.started("r1")
        responses.done("r2")
        assert responses.active == "r1"

    def test_the_end_of_a_response_whose_beginning_was_not_reported(self):
        responses = queue(HELLO)
        asked(responses)
        responses.done("r1")
        assert not responses.is_busy
        responses.failed()
        assert all_asked(responses) == [HELLO]

    def test_the_end_of_another_response_leaves_the_request_pending(self):
        responses = queue(HELLO)
        responses.started("r1")
        responses.done("r2")
        assert all_asked(responses) == []
        responses.done("r1")
        assert all_asked(responses) == [HELLO]

    def test_a_lost_response_is_no_longer_active(self):
        responses = queue(HELLO)
        responses.started("r1")
        responses.lost()
        assert asked(responses) == HELLO


class TestWantedAgain:
    def test_a_failed_request_comes_first_with_its_instructions(self):
        responses = queue(HELLO, SORRY, PLAIN)
        asked(responses)
        responses.started("r9")
        responses.done("r9")
        responses.failed()
        assert all_asked(responses) == [HELLO, SORRY, PLAIN]

    def test_a_refused_request_comes_first(self):
        responses = queue(HELLO, SORRY, PLAIN)
        asked(responses)
        responses.refused()
        assert responses.asked is None
        assert all_asked(responses) == [HELLO, SORRY, PLAIN]

    def test_a_refusal_without_a_request_changes_nothing(self):
        responses = queue(HELLO)
        responses.refused()
        assert all_asked(responses) == [HELLO]

    def test_a_plain_request_is_not_queued_twice(self):
        responses = queue(PLAIN)
        asked(responses)
        responses.want(PLAIN)
        responses.refused()
        assert all_asked(responses) == [PLAIN]

    def test_a_request_with_instructions_may_be_queued_twice(self):
        responses = queue(HELLO, PLAIN)
        asked(responses)
        responses.refused()
        assert all_asked(responses) == [HELLO, PLAIN]

    def test_the_models_own_response_counts_as_plain_when_it_fails(self):
        responses = ResponseQueue()
        responses.started("r9")
        responses.done("r9")
        responses.failed()
        assert all_asked(responses) == [PLAIN]


class TestWhatMetAnother:
    def test_it_waits_for_the_end_of_the_other(self):
        responses = queue(HELLO)
        asked(responses)
        responses.refused_as_active()
        assert responses.asked is None
        assert asked(responses) is None
        responses.done("unheard of")
        assert all_asked(responses) == [HELLO]

    def test_it_waits_even_if_the_other_was_mistaken_for_it(self):
        responses = queue(HELLO)
        asked(responses)
        responses.started("the model's own")
        responses.refused_as_active()
        assert responses.active == "the model's own"
        responses.done("the model's own")
        assert all_asked(responses) == [HELLO]

    def test_the_other_is_plain_if_it_fails(self):
        responses = queue(HELLO)
        asked(responses)
        responses.started("r9")
        responses.refused_as_active()
        responses.done("r9")
        responses.failed()
        assert all_asked(responses) == [PLAIN, HELLO]

    def test_a_collision_without_a_request_changes_nothing(self):
        responses = ResponseQueue()
        responses.refused_as_active()
        assert responses.active
        responses.done("r9")
        assert not responses.is_busy


class TestWhatBeginsLate:
    def late(self, *wanted):
        responses = queue(HELLO, *wanted)
        asked(responses)
        responses.overdue()
        return responses

    def test_an_overdue_request_is_queued_again(self):
        assert all_asked(self.late(SORRY)) == [HELLO, SORRY]

    def test_an_overdue_request_that_begins_is_not_queued_again(self):
        responses = self.late(SORRY)
        responses.started("r9")
        responses.done("r9")
        assert all_asked(responses) == [SORRY]

    def test_an_overdue_request_that_begins_and_fails_is_queued_again(self):
        responses = self.late()
        responses.started("r9")
        responses.done("r9")
        responses.failed()
        assert all_asked(responses) == [HELLO]

    def test_nothing_is_late_without_a_request(self):
        responses = queue(HELLO)
        responses.overdue()
        responses.started("r9")
        responses.done("r9")
        assert all_asked(responses) == [HELLO]

    def test_a_repeated_request_that_meets_the_late_response_is_dropped(self):
        responses = self.late()
        asked(responses)
        responses.started("r9")
        responses.refused_as_active()
        responses.done("r9")
        assert not responses.is_busy

    def test_nor_does_what_begins_after_one_that_was_lost(self):
        responses = self.late()
        asked(responses)
        responses.started("r8")
        responses.lost()
        assert responses.started("r9") is True
        responses.done("r9")
        assert not responses.is_busy

    def test_nothing_is_late_after_the_end_of_another_response(self):
        responses = self.late()
        responses.done("r8")
        responses.started("r9")
        responses.done("r9")
        assert all_asked(responses) == [HELLO]
