"""The audio that the caller has heard, by marks and by the clock between them."""

from __future__ import annotations

import pytest

from telephony.engine.playback import Playback, Unheard

SECOND = 8_000  # bytes of audio


def heard(playback, now):
    """Clear the playback; return how many ms of each item the caller heard."""
    return [(item.item_id, item.heard_ms) for item in playback.clear(now)]


class TestMarks:
    def test_a_mark_is_due_after_each_second_of_an_item(self):
        playback = Playback()
        assert playback.sent("a1", SECOND - 1, 0.0) == ""
        assert playback.sent("a1", 1, 0.0) == "1"
        assert playback.sent("a1", SECOND - 1, 0.0) == ""
        assert playback.sent("a1", 1, 0.0) == "2"

    def test_the_end_of_an_item_has_one_mark(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.end("another") is None
        assert playback.end("a1") == "1"
        assert playback.end("a1") is None

    def test_an_item_of_whole_seconds_needs_no_final_mark(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        assert playback.end("a1") is None

    def test_the_next_item_marks_the_end_of_the_previous_one(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.sent("a2", 160, 0.0) == "1"
        assert playback.end("a2") == "2"

    def test_the_end_of_the_current_item_is_marked(self):
        playback = Playback()
        assert playback.end_all() is None
        playback.sent("a1", 160, 0.0)
        assert playback.end_all() == "1"
        assert playback.end_all() is None

    @pytest.mark.parametrize("name", ["", "x", "-1", "0", "3", "1²", "²", "\u0661", "1.0"])
    def test_a_mark_that_we_did_not_send_is_ignored(self, name):
        playback = Playback()
        playback.sent("a1", 2 * SECOND, 0.0)
        playback.end_all()
        playback.played(name, 0.5)
        assert heard(playback, 0.5) == [("a1", 500)]

    def test_a_mark_tells_how_much_of_its_item_was_played(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.sent("a2", SECOND, 0.0)
        playback.sent("a2", 800, 0.0)
        playback.end_all()
        assert playback.played("1", 1.0) == ("a1", 20)
        assert playback.played("3", 2.0) == ("a2", 1100)
        assert playback.played("3", 2.0) is None
        assert playback.played("x", 2.0) is None
        assert playback.played("9", 2.0) is None

    def test_a_mark_confirms_those_before_it(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.sent("a1", SECOND, 0.0)
        playback.played("2", 2.0)
        assert not playback.is_outstanding


class TestRoom:
    def test_there_is_none_before_the_agent_speaks(self):
        assert Playback().room == 0

    def test_it_is_the_rest_of_a_second(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.room == SECOND - 160
        playback.passed(160)
        assert playback.room == SECOND - 320
        assert playback.total == 320

    def test_it_is_a_second_after_a_mark(self):
        playback = Playback()
        playback.sent("a1", SECOND + 160, 0.0)
        playback.sent("a1", 160, 0.0)
        assert playback.room == SECOND - 160

    def test_there_is_none_once_everything_was_heard(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.end("a1")
        playback.played("1", 0.1)
        assert playback.room == 0


class TestHowMuchWasHeard:
    def test_nothing_when_nothing_was_said(self):
        assert heard(Playback(), 1.0) == []

    def test_the_clock_gives_an_estimate_between_marks(self):
        playback = Playback()
        playback.sent("a1", SECOND - 8, 10.0)
        assert heard(playback, 10.25) == [("a1", 250)]

    def test_no_more_than_was_sent(self):
        playback = Playback()
        playback.sent("a1", 1_600, 10.0)
        assert heard(playback, 12.0) == [("a1", 200)]

    def test_no_more_than_up_to_the_next_mark(self):
        playback = Playback()
        playback.sent("a1", SECOND, 10.0)
        playback.sent("a1", SECOND - 8, 10.0)
        assert heard(playback, 15.0) == [("a1", 1_000)]

    def test_no_less_than_nothing(self):
        playback = Playback()
        playback.sent("a1", 1_600, 10.0)
        assert heard(playback, 9.0) == [("a1", 0)]

    def test_a_mark_overrides_the_clock(self):
        playback = Playback()
        playback.sent("a1", SECOND, 10.0)
        playback.sent("a1", 1_600, 10.0)
        playback.played("1", 13.0)
        assert heard(playback, 13.1) == [("a1", 1_100)]

    def test_an_item_that_waits_for_another_is_unheard(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.sent("a2", 1_600, 0.0)
        assert heard(playback, 0.1) == [("a1", 100), ("a2", 0)]

    def test_the_next_item_begins_when_the_previous_one_ends(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.end("a1")
        playback.sent("a2", 1_600, 0.0)
        playback.end("a2")
        playback.played("1", 0.3)
        assert heard(playback, 0.35) == [("a2", 50)]

    def test_later_items_begin_when_the_previous_one_ends(self):
        playback = Playback()
        for item in ("a1", "a2", "a3", "a1"):
            playback.sent(item, 1_600, 0.0)
        playback.end("a1")
        playback.played("1", 0.3)
        assert heard(playback, 0.35) == [("a2", 50), ("a3", 0), ("a1", 0)]

    def test_an_item_after_silence_begins_at_once(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.end("a1")
        playback.played("1", 0.2)
        playback.sent("a2", 1_600, 60.0)
        assert heard(playback, 60.1) == [("a2", 100)]

    def test_an_item_that_resumes_after_silence_continues_where_it_was(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.end("a1")
        playback.played("1", 0.2)
        playback.sent("a1", 1_600, 60.0)
        assert heard(playback, 60.1) == [("a1", 300)]


class TestClear:
    def test_nothing_is_outstanding_afterwards(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.sent("a1", 160, 0.0)
        playback.clear(0.5)
        assert not playback.is_outstanding
        assert playback.room == 0
        assert playback.clear(0.6) == []
        assert playback.end("a1") is None
        assert playback.end_all() is None

    def test_later_audio_of_unheard_items_is_dropped(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.sent("a2", 160, 0.0)
        playback.clear(0.0)
        assert playback.sent("a1", 160, 0.1) is None
        assert playback.sent("a2", 160, 0.1) is None
        assert playback.total == 320
        assert playback.sent("a3", 160, 0.1) == ""

    def test_an_item_that_was_heard_may_continue(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.end("a1")
        playback.played("1", 0.1)
        playback.clear(0.2)
        assert playback.sent("a1", 160, 0.3) == ""

    def test_earlier_marks_do_not_confirm_later_audio(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.clear(0.5)
        playback.sent("a2", 1_600, 1.0)
        playback.end("a2")
        playback.played("1", 1.0)
        assert playback.is_outstanding
        playback.played("2", 1.2)
        assert not playback.is_outstanding

    def test_the_next_item_has_a_whole_second_before_its_mark(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.clear(0.0)
        playback.sent("a2", 160, 0.0)
        assert playback.room == SECOND - 160
        assert heard(playback, 5.0) == [("a2", 20)]

    def test_close_drops_all_later_audio(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.close(0.01) == [Unheard("a1", 10, 20)]
        assert playback.sent("a1", 160, 1.0) is None
        assert playback.sent("a2", 160, 1.0) is None
        assert playback.total == 160


class TestOverdue:
    """Five seconds after the caller must have heard everything."""

    def test_counts_from_what_was_sent_last(self):
        playback = Playback()
        playback.sent("a1", SECOND, 10.0)
        playback.sent("a1", SECOND, 10.5)
        assert playback.overdue_at == 10.5 + 2 + 5

    def test_counts_from_the_mark_that_came_last(self):
        playback = Playback()
        playback.sent("a1", SECOND, 10.0)
        playback.sent("a1", SECOND, 10.0)
        playback.played("1", 11.5)
        assert playback.overdue_at == 11.5 + 1 + 5

    def test_does_not_count_what_was_cleared(self):
        playback = Playback()
        playback.sent("a1", 60 * SECOND, 10.0)
        playback.clear(11.0)
        playback.sent("a2", SECOND, 12.0)
        assert playback.overdue_at == 12.0 + 1 + 5

    def test_does_not_count_what_was_given_up(self):
        playback = Playback()
        playback.sent("a1", 60 * SECOND, 10.0)
        playback.sent("a1", 160, 10.0)
        playback.give_up()
        assert not playback.is_outstanding
        playback.sent("a1", SECOND, 90.0)
        assert playback.overdue_at == 90.0 + 1 + 5

    def test_a_mark_that_was_given_up_does_not_confirm_later_audio(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.give_up()
        playback.sent("a1", 160, 10.0)
        playback.played("1", 10.01)
        assert heard(playback, 10.01) == [("a1", 1_010)]
