"""Text that becomes sound and is understood again."""

import math
import wave
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sandbox.speech import (
    FRAME_BYTES,
    SILENCE,
    Ear,
    duration_ms,
    frames,
    hear,
    is_silence,
    normal,
    to_linear,
    to_mulaw,
    write_wav,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_it_works() -> None:
    said = frames("Hello, who is there?")

    assert {len(frame) for frame in said} == {FRAME_BYTES}
    assert hear(said) == "Hello, who is there?"


@given(TEXTS)
def test_any_text_is_understood(text: str) -> None:
    assert hear(frames(text)) == normal(text)


@given(TEXTS, st.lists(st.integers(1, 2000), min_size=1), st.integers(0, 400))
def test_how_the_audio_is_cut_does_not_matter(text: str, lengths: list[int], before: int) -> None:
    audio = b"\xff" * before + b"".join(frames(text)) + b"\xff" * before
    pieces, at = [], 0
    while at < len(audio):
        for length in lengths:
            pieces.append(audio[at : at + length])
            at += length

    assert hear(pieces) == normal(text)


@given(TEXTS, TEXTS)
def test_two_texts_in_a_row_are_two_words(first: str, second: str) -> None:
    assert hear(frames(first) + frames(second)) == normal(f"{first} {second}")


def test_an_ear_understands_as_the_sound_comes_in() -> None:
    ear = Ear()

    assert [ear.listen(frame) for frame in frames("Hi")] == [" ", "", "H", "", "i", ""]


def test_silence_in_a_word_is_not_heard() -> None:
    said = frames("underrun")

    assert hear([*said[:7], SILENCE, SILENCE, *said[7:]]) == "underrun"


def test_a_doubled_letter_is_heard_twice_and_a_lost_one_is_missed() -> None:
    breath, letter, other = (frames("ab")[i : i + 2] for i in (0, 2, 4))

    assert hear(breath + letter + letter + other) == "aab"
    assert hear(breath + other) == "b"


def test_half_a_letter_is_enough() -> None:
    said = frames("stop")

    assert hear(said[:-1]) == "stop"
    assert hear(said[3:]) == "stop"
    assert hear([b"".join(said)[330:]]) == "stop"


def test_a_sound_that_is_no_speech_is_heard_once() -> None:
    noise = bytes(range(0x20, 0x60)) * 20

    assert hear([*frames("before"), noise, *frames("after")]) == "before… after"
    assert hear([noise]) == "…"


def test_a_click_is_no_sound() -> None:
    assert hear([*frames("a"), b"\x20" * 20, *frames("b")]) == "a b"


def test_a_character_that_was_cut_in_half_is_unknown() -> None:
    assert hear(frames("é")[:4]) == "…"


def test_silence() -> None:
    assert is_silence(SILENCE)
    assert is_silence(b"")
    assert not any(is_silence(frame) for frame in frames("a word and another"))
    assert hear([SILENCE] * 10) == ""


def test_a_second_of_speech_is_25_letters() -> None:
    assert duration_ms("a" * 24) == 1000


@given(st.integers(-32_768, 32_767))
def test_mulaw_loses_little(sample: int) -> None:
    assert abs(to_linear(to_mulaw(sample)) - sample) <= max(8, abs(sample) // 16)


def test_mulaw_codes_are_those_of_g711() -> None:
    assert [to_mulaw(sample) for sample in (0, 8, -8, 32_767, -32_768)] == [
        0xFF,
        0xFE,
        0x7E,
        0x80,
        0x00,
    ]
    assert [to_mulaw(to_linear(code)) for code in range(256) if code != 0x7F] == [
        code for code in range(256) if code != 0x7F
    ]


def test_frames_are_quiet_and_meet_without_a_click() -> None:
    samples = [to_linear(code) for frame in frames("The quick brown fox") for code in frame]
    steepest = 2 * math.pi / 8_000 * (4_500 * 1_050 + 1_500 * 1_850)

    assert max(map(abs, samples)) < 8_000
    assert max(abs(a - b) for a, b in pairwise(samples)) < steepest


def test_a_recording_has_the_caller_on_the_left(tmp_path) -> None:
    path = str(tmp_path / "call.wav")
    write_wav(path, frames("Hi"), [SILENCE])

    with wave.open(path) as recording:
        assert recording.getnchannels() == 2
        assert recording.getframerate() == 8000
        assert recording.getnframes() == 6 * 160
        samples = memoryview(recording.readframes(6 * 160)).cast("h")
    assert any(samples[0::2])
    assert not any(samples[1::2])
