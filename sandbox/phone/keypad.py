"""Key tones in the audio: the only way in which a media stream can press keys."""

from __future__ import annotations

import math
from operator import mul

from sandbox.speech import FRAME_BYTES, SAMPLE_RATE, to_linear

# ITU-T Q.23.
_LOW = (697, 770, 852, 941)
_HIGH = (1209, 1336, 1477, 1633)
_KEYS = ("123A", "456B", "789C", "*0#D")
# The least share of the sound's energy in the two tones of a key.
_SHARE = 0.8

_SAMPLES = [to_linear(code) for code in range(256)]
_WAVES = {
    hertz: tuple(
        [function(2 * math.pi * hertz * i / SAMPLE_RATE) for i in range(FRAME_BYTES)]
        for function in (math.cos, math.sin)
    )
    for hertz in _LOW + _HIGH
}


class Keypad:
    """Recognizes keys in a sound, frame by frame; a key counts once, however long it sounds."""

    def __init__(self) -> None:
        self._before = ""
        self._pressed = ""

    @property
    def is_pressed(self) -> bool:
        """True while a key's tone has not ended."""
        return bool(self._pressed)

    def listen(self, frame: bytes) -> str:
        """Return the key whose tone has lasted for two frames, or ""."""
        key = _key_in(frame)
        is_new = key == self._before and key != self._pressed
        if key != self._pressed:
            self._pressed = key if is_new else ""
        self._before = key
        return key if is_new else ""


def _key_in(frame: bytes) -> str:
    samples = [_SAMPLES[code] for code in frame]
    energy = sum(map(mul, samples, samples))
    if not energy:
        return ""
    powers = {hertz: _power(samples, hertz) for hertz in _WAVES}
    low = max(_LOW, key=powers.__getitem__)
    high = max(_HIGH, key=powers.__getitem__)
    if (powers[low] + powers[high]) / energy < _SHARE:
        return ""
    return _KEYS[_LOW.index(low)][_HIGH.index(high)]


def _power(samples: list[int], hertz: int) -> float:
    cosine, sine = _WAVES[hertz]
    real, imaginary = sum(map(mul, samples, cosine)), sum(map(mul, samples, sine))
    return (real * real + imaginary * imaginary) * 2 / FRAME_BYTES
