"""What the caller has heard: counted by marks, and by the clock between them."""

from __future__ import annotations

import pytest

from telephony.engine.playback import Playback, Unheard

SECOND = 8_000  # bytes of audio


def heard(playback, now):
    """Interrupt; return how far the caller got, by item."""
    return [(item.item_id, item.heard_ms) for item in playback.clear(now)]


class TestMarks:
    def test_one_is_due_when_a_second_of_an_item_is_full(self):
        playback = Playback()
        assert playback.sent("a1", SECOND - 1, 0.0) == ""
        assert playback.sent("a1", 1, 0.0) == "1"
        assert playback.sent("a1", SECOND - 1, 0.0) == ""
        assert playback.sent("a1", 1, 0.0) == "2"

    def test_the_end_of_an_item_is_marked_once(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.end("another") is None
        assert playback.end("a1") == "1"
        assert playback.end("a1") is None

    def test_an_item_that_ends_with_a_full_second_has_its_mark(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        assert playback.end("a1") is None

    def test_the_next_item_brings_the_mark_of_one_that_did_not_end(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.sent("a2", 160, 0.0) == "1"
        assert playback.end("a2") == "2"

    def test_the_end_of_whatever_is_sent(self):
        playback = Playback()
        assert playback.end_all() is None
        playback.sent("a1", 160, 0.0)
        assert playback.end_all() == "1"
        assert playback.end_all() is None

    @pytest.mark.parametrize("name", ["", "x", "-1", "0", "3", "1²", "²", "\u0661", "1.0"])
    def test_what_we_did_not_send_is_no_mark(self, name):
        playback = Playback()
        playback.sent("a1", 2 * SECOND, 0.0)
        playback.end_all()
        playback.played(name, 0.5)
        assert heard(playback, 0.5) == [("a1", 500)]

    def test_a_mark_stands_for_those_before_it(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.sent("a1", SECOND, 0.0)
        playback.played("2", 2.0)
        assert not playback.is_outstanding


class TestRoom:
    def test_there_is_none_before_somebody_speaks(self):
        assert Playback().room == 0

    def test_it_is_what_lacks_to_a_full_second(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.room == SECOND - 160
        playback.passed(160)
        assert playback.room == SECOND - 320
        assert playback.total == 320

    def test_it_begins_anew_behind_a_mark(self):
        playback = Playback()
        playback.sent("a1", SECOND + 160, 0.0)
        playback.sent("a1", 160, 0.0)
        assert playback.room == SECOND - 160

    def test_there_is_none_once_all_was_heard(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.end("a1")
        playback.played("1", 0.1)
        assert playback.room == 0


class TestHowMuchWasHeard:
    def test_nothing_when_nothing_was_said(self):
        assert heard(Playback(), 1.0) == []

    def test_the_clock_tells_between_marks(self):
        playback = Playback()
        playback.sent("a1", SECOND - 8, 10.0)
        assert heard(playback, 10.25) == [("a1", 250)]

    def test_no_more_than_was_sent(self):
        playback = Playback()
        playback.sent("a1", 1_600, 10.0)
        assert heard(playback, 12.0) == [("a1", 200)]

    def test_no_more_than_the_mark_that_has_not_come_back(self):
        playback = Playback()
        playback.sent("a1", SECOND, 10.0)
        playback.sent("a1", SECOND - 8, 10.0)
        assert heard(playback, 15.0) == [("a1", 1_000)]

    def test_no_less_than_nothing(self):
        playback = Playback()
        playback.sent("a1", 1_600, 10.0)
        assert heard(playback, 9.0) == [("a1", 0)]

    def test_a_mark_is_surer_than_the_clock(self):
        playback = Playback()
        playback.sent("a1", SECOND, 10.0)
        playback.sent("a1", 1_600, 10.0)
        playback.played("1", 13.0)
        assert heard(playback, 13.1) == [("a1", 1_100)]

    def test_an_item_that_waits_behind_another_is_unheard(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.sent("a2", 1_600, 0.0)
        assert heard(playback, 0.1) == [("a1", 100), ("a2", 0)]

    def test_the_next_item_is_heard_from_when_the_one_before_it_ended(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.end("a1")
        playback.sent("a2", 1_600, 0.0)
        playback.end("a2")
        playback.played("1", 0.3)
        assert heard(playback, 0.35) == [("a2", 50)]

    def test_so_are_those_that_follow_it(self):
        playback = Playback()
        for item in ("a1", "a2", "a3", "a1"):
            playback.sent(item, 1_600, 0.0)
        playback.end("a1")
        playback.played("1", 0.3)
        assert heard(playback, 0.35) == [("a2", 50), ("a3", 0), ("a1", 0)]

    def test_an_item_that_follows_silence_is_heard_from_its_beginning(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.end("a1")
        playback.played("1", 0.2)
        playback.sent("a2", 1_600, 60.0)
        assert heard(playback, 60.1) == [("a2", 100)]

    def test_an_item_that_goes_on_after_silence_is_heard_from_where_it_was(self):
        playback = Playback()
        playback.sent("a1", 1_600, 0.0)
        playback.end("a1")
        playback.played("1", 0.2)
        playback.sent("a1", 1_600, 60.0)
        assert heard(playback, 60.1) == [("a1", 300)]


class TestClear:
    def test_nothing_is_outstanding_then(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.sent("a1", 160, 0.0)
        playback.clear(0.5)
        assert not playback.is_outstanding
        assert playback.room == 0
        assert playback.clear(0.6) == []
        assert playback.end("a1") is None
        assert playback.end_all() is None

    def test_what_was_not_heard_is_not_sent_any_more(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.sent("a2", 160, 0.0)
        playback.clear(0.0)
        assert playback.sent("a1", 160, 0.1) is None
        assert playback.sent("a2", 160, 0.1) is None
        assert playback.total == 320
        assert playback.sent("a3", 160, 0.1) == ""

    def test_what_was_heard_may_go_on(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        playback.end("a1")
        playback.played("1", 0.1)
        playback.clear(0.2)
        assert playback.sent("a1", 160, 0.3) == ""

    def test_marks_of_before_say_nothing_of_what_follows(self):
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

    def test_for_good(self):
        playback = Playback()
        playback.sent("a1", 160, 0.0)
        assert playback.close(0.01) == [Unheard("a1", 10)]
        assert playback.sent("a1", 160, 1.0) is None
        assert playback.sent("a2", 160, 1.0) is None
        assert playback.total == 160


class TestOverdue:
    """Five seconds after all that is outstanding must have been heard."""

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

    def test_nor_what_was_given_up(self):
        playback = Playback()
        playback.sent("a1", 60 * SECOND, 10.0)
        playback.sent("a1", 160, 10.0)
        playback.give_up()
        assert not playback.is_outstanding
        playback.sent("a1", SECOND, 90.0)
        assert playback.overdue_at == 90.0 + 1 + 5

    def test_a_mark_that_was_given_up_says_nothing_of_what_follows(self):
        playback = Playback()
        playback.sent("a1", SECOND, 0.0)
        playback.give_up()
        playback.sent("a1", 160, 10.0)
        playback.played("1", 10.01)
        assert heard(playback, 10.01) == [("a1", 1_010)]
