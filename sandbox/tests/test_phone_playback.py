"""The audio that waits to be played, and its marks."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sandbox.phone.playback import Playback
from sandbox.speech import SILENCE

A, B = b"a" * 160, b"b" * 160


def test_it_works() -> None:
    playback = Playback()
    playback.add(A + B)
    playback.mark("end")

    assert playback.tick() == (A, [])
    assert playback.tick() == (B, [])
    assert not playback.is_empty
    assert playback.tick() == (SILENCE, ["end"])
    assert playback.is_empty


def test_a_mark_with_nothing_before_it_is_due_at_once() -> None:
    playback = Playback()
    playback.mark("first")
    playback.add(A)

    assert playback.tick() == (A, ["first"])


def test_a_mark_in_the_middle_of_a_frame_waits_for_its_end() -> None:
    playback = Playback()
    playback.add(A[:40])
    playback.mark("middle")
    playback.add(B)

    assert playback.tick() == (A[:40] + B[:120], [])
    assert playback.tick() == (B[120:] + SILENCE[:120], ["middle"])


def test_clear_drops_the_audio_and_gives_back_every_mark() -> None:
    playback = Playback()
    playback.add(A[:40])
    playback.mark("one")
    playback.add(B)
    playback.mark("two")
    playback.tick()

    assert playback.clear() == ["one", "two"]
    assert playback.is_empty
    assert playback.tick() == (SILENCE, [])


@given(st.lists(st.one_of(st.binary(max_size=700), st.just("mark"))))
def test_nothing_is_lost_or_early(items: list[bytes | str]) -> None:
    playback = Playback()
    due: list[int] = []
    audio = b""
    for item in items:
        if isinstance(item, str):
            playback.mark(item)
            due.append(len(audio))
        else:
            playback.add(item)
            audio += item

    played, passed = b"", []
    while not playback.is_empty:
        frame, marks = playback.tick()
        passed += [len(played)] * len(marks)
        played += frame

    assert played.startswith(audio)
    assert all(frame >= at for frame, at in zip(passed, due, strict=True))
    assert all(frame - at < 320 for frame, at in zip(passed, due, strict=True))
    assert all(a <= b for a, b in pairwise(passed))
