"""The order and limits of a transcript whose texts arrive out of order."""

import random

from telephony.engine.plan import LONGEST_CALL_S
from telephony.engine.playback import Unheard
from telephony.engine.transcript import Transcript


def _texts(transcript):
    return [line.text for line in transcript.lines()]


def test_turns_are_in_the_order_of_the_item_chain():
    transcript = Transcript()
    transcript.begin("u1", "user", 1.0)
    transcript.place("u1", None)
    transcript.begin("a1", "assistant", 2.0)
    transcript.place("a1", "u1")
    transcript.write("a1", "assistant", "Second.", 2.5)
    transcript.write("u1", "user", "First.", 3.0)
    assert _texts(transcript) == ["First.", "Second."]
    assert [line.at for line in transcript.lines()] == [1.0, 2.0]
    assert not any(line.interrupted for line in transcript.lines())


def test_the_order_of_arrival_does_not_matter():
    chain = [f"i{number}" for number in range(20)]
    for seed in range(20):
        transcript = Transcript()
        for index, item in enumerate(chain):
            transcript.place(item, chain[index - 1] if index else None)
        shuffled = random.Random(seed).sample(chain, len(chain))  # noqa: S311
        for item in shuffled:
            transcript.write(item, "user", item, 0.0)
        assert _texts(transcript) == chain


def test_the_chain_begins_with_the_item_that_follows_none():
    transcript = Transcript()
    for item in ("u2", "u3"):
        transcript.write(item, "user", item, 0.0)
    transcript.place("u1", None)
    transcript.write("u1", "user", "u1", 0.0)
    assert _texts(transcript) == ["u1", "u2", "u3"]


def test_an_item_directly_follows_the_one_before_it():
    transcript = Transcript()
    for item in ("u1", "u3", "u4"):
        transcript.write(item, "user", item, 0.0)
    transcript.place("u2", "u1")
    transcript.write("u2", "user", "u2", 0.0)
    assert _texts(transcript) == ["u1", "u2", "u3", "u4"]


def test_items_without_text_keep_their_place_in_the_chain():
    transcript = Transcript()
    transcript.place("u1", None)
    transcript.place("call", "u1")
    transcript.place("output", "call")
    transcript.place("a1", "output")
    transcript.write("a1", "assistant", "Done.", 2.0)
    transcript.write("u1", "user", "Do it.", 1.0)
    assert _texts(transcript) == ["Do it.", "Done."]


def test_a_transcript_is_complete_when_every_turn_that_began_has_its_text():
    transcript = Transcript()
    assert transcript.is_complete
    transcript.begin("u1", "user", 1.0)
    assert not transcript.is_complete
    transcript.write("u1", "user", "", 2.0)
    assert transcript.is_complete
    assert transcript.lines() == ()


def test_another_session_of_the_model_does_not_change_the_order_of_earlier_turns():
    transcript = Transcript()
    transcript.write("a1", "assistant", "One.", 1.0)
    transcript.write("u1", "user", "Two.", 2.0)
    transcript.settle()
    transcript.write("u2", "user", "Three.", 3.0)
    transcript.place("sh_1", None)
    transcript.place("u2", "sh_1")
    transcript.place("u1", None)
    transcript.write("a2", "assistant", "Four.", 4.0)
    transcript.place("a2", "a1")
    assert _texts(transcript) == ["One.", "Two.", "Four.", "Three."]


def test_an_interrupted_turn_is_marked():
    transcript = Transcript()
    transcript.begin("a1", "assistant", 1.0)
    transcript.interrupt(Unheard("a1", 300, 400))
    transcript.interrupt(Unheard("unknown", 300, 400))
    transcript.write("a1", "assistant", "As I was", 2.0)
    line = transcript.lines()[0]
    assert (line.interrupted, line.heard) == (True, 0.75)


def test_a_transcript_has_a_limit_of_lines():
    transcript = Transcript()
    for number in range(10_000):
        transcript.write(f"u{number}", "user", "a" * 10, 0.0)
        transcript.place(f"u{number}", f"u{number - 1}")
    assert transcript.is_full
    assert len(transcript.lines()) == 4_000
    assert transcript.is_complete


def test_the_longest_call_has_room():
    transcript = Transcript()
    turns = LONGEST_CALL_S // 4
    for number in range(turns):
        transcript.write(f"i{number}", "user", "Somebody says something for four seconds.", number)
        transcript.place(f"i{number}", f"i{number - 1}" if number else None)
    assert len(transcript.lines()) == turns
    assert not transcript.is_full


def test_the_item_chain_has_a_limit():
    transcript = Transcript()
    for number in range(8_000):
        transcript.place(f"i{number}", None)
    transcript.place("late", None)
    transcript.write("late", "user", "late", 0.0)
    transcript.write("i0", "user", "i0", 0.0)
    assert _texts(transcript) == ["i0", "late"]


def test_a_text_is_cut_to_the_characters_that_are_left():
    transcript = Transcript()
    transcript.write("u1", "user", "a" * 200_000, 0.0)
    transcript.write("u2", "user", "b" * 1_000_000, 0.0)
    transcript.write("u3", "user", "c", 0.0)
    assert [len(text) for text in _texts(transcript)] == [200_000, 50_000]


def test_a_transcript_is_full_when_no_characters_are_left():
    transcript = Transcript()
    transcript.write("u1", "user", "a" * 249_999, 0.0)
    assert not transcript.is_full
    transcript.write("u2", "user", "bb", 0.0)
    assert transcript.is_full
    transcript.write("u3", "user", "c", 0.0)
    assert [line.text[-1] for line in transcript.lines()] == ["a", "…"]


def test_a_turn_in_a_full_transcript_has_no_text():
    transcript = Transcript()
    transcript.begin("u1", "user", 0.0)
    transcript.write("u2", "user", "a" * 250_000, 0.0)
    transcript.write("u1", "user", "b", 0.0)
    assert transcript.is_full
    assert transcript.is_complete
    assert _texts(transcript) == ["a" * 250_000]


def test_a_repeated_text_replaces_itself():
    transcript = Transcript()
    for _ in range(10):
        transcript.write("u1", "user", "a" * 200_000, 0.0)
    assert [len(text) for text in _texts(transcript)] == [200_000]


def test_what_postgresql_cannot_store_is_replaced():
    transcript = Transcript()
    transcript.write("u1", "user", "a\0b", 0.0)
    assert _texts(transcript) == ["a\ufffdb"]
