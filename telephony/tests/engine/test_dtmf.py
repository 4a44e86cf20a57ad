"""DTMF tones, measured with Goertzel's filter."""

import base64
import math

import pytest

from telephony.engine.dtmf import is_dialable, tones

FREQUENCIES = (697, 770, 852, 941, 1209, 1336, 1477, 1633)


def _linear(byte: int) -> int:
    """Decode a mu-law byte according to G.711."""
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + 132 << (byte >> 4 & 7)) - 132
    return -magnitude if byte & 0x80 else magnitude


def _strength(samples: list[int], frequency: int) -> float:
    turn = 2 * math.pi * frequency / 8000
    real = sum(value * math.cos(turn * index) for index, value in enumerate(samples))
    imaginary = sum(value * math.sin(turn * index) for index, value in enumerate(samples))
    return math.hypot(real, imaginary)


@pytest.mark.parametrize(
    ("key", "pair"),
    [
        ("1", (697, 1209)),
        ("5", (770, 1336)),
        ("0", (941, 1336)),
        ("#", (941, 1477)),
        ("D", (941, 1633)),
    ],
)
def test_a_key_is_its_two_tones(key, pair):
    sound = base64.b64decode(tones(key))
    samples = [_linear(byte) for byte in sound[: 120 * 8]]
    loudest = sorted(FREQUENCIES, key=lambda each: _strength(samples, each), reverse=True)[:2]
    assert tuple(sorted(loudest)) == pair


def _half_step(byte: int) -> int:
    """Return the distance of a decoded value, the middle of its interval, from the ends of it."""
    return 4 << (~byte >> 4 & 7)


@pytest.mark.parametrize(("key", "pair"), [("1", (697, 1209)), ("D", (941, 1633))])
def test_a_key_sounds_as_loud_as_it_should_in_every_sample(key, pair):
    sound = base64.b64decode(tones(key))[: 120 * 8]
    for index, byte in enumerate(sound):
        turns = [2 * math.pi * frequency * index / 8000 for frequency in pair]
        sample = round(8_000 * sum(map(math.sin, turns)))
        assert _linear(byte) * sample >= 0
        assert -_half_step(byte) <= abs(sample) - abs(_linear(byte)) < _half_step(byte)
    assert sound[0] == 0xFF  # silence


def test_silence_separates_keys():
    sound = base64.b64decode(tones("11"))
    assert len(sound) == 2 * 200 * 8
    assert set(sound[120 * 8 : 200 * 8]) == {0xFF}


@pytest.mark.parametrize("digits", ["1", "0123456789*#ABCDw", "w" * 40])
def test_dialable(digits):
    assert is_dialable(digits)


@pytest.mark.parametrize("digits", ["", "a", "1 2", "1" * 41, 12, None])
def test_not_dialable(digits):
    assert not is_dialable(digits)
