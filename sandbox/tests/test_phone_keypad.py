"""Keys that are pressed by sound."""

import pytest

from sandbox.phone.keypad import Keypad
from sandbox.speech import FRAME_BYTES, SILENCE, frames, hold_tone
from sandbox.tests.customer import KEY_TONES, key_tone


def keys_in(audio: bytes) -> str:
    keypad = Keypad()
    return "".join(
        keypad.listen(audio[at : at + FRAME_BYTES]) for at in range(0, len(audio), FRAME_BYTES)
    )


@pytest.mark.parametrize("key", KEY_TONES)
def test_it_works(key: str) -> None:
    assert keys_in(key_tone(key)) == key


@pytest.mark.parametrize("shift", [0, 1, 50, 159])
def test_keys_in_a_row(shift: int) -> None:
    gap = SILENCE * 3
    audio = b"\xff" * shift + gap.join(key_tone(key) for key in "1155#") + gap

    assert keys_in(audio[: len(audio) // FRAME_BYTES * FRAME_BYTES]) == "1155#"


def test_a_tone_of_one_frame_is_no_key() -> None:
    assert keys_in(SILENCE + key_tone("5", 20) + SILENCE) == ""


@pytest.mark.parametrize(
    "audio", [SILENCE * 10, hold_tone(1), b"".join(frames("Some words, and 1 2 3"))]
)
def test_other_sounds_are_no_keys(audio: bytes) -> None:
    assert keys_in(audio) == ""
