"""DTMF tones. A media stream has no message for key presses, so we send the tones as audio.

ITU-T Q.23 sets the frequencies, and Q.24 the 70 ms that a receiver may require.
"""

from __future__ import annotations

import base64
import math
from functools import lru_cache

from telephony.engine.playback import BYTES_PER_MS

_LOW = (697, 770, 852, 941)
_HIGH = (1209, 1336, 1477, 1633)
_KEYS = ("123A", "456B", "789C", "*0#D")
_TONES = {
    key: (_LOW[row], _HIGH[column])
    for row, keys in enumerate(_KEYS)
    for column, key in enumerate(keys)
}
_TONE_MS = 120
_GAP_MS = 80
_WAIT_MS = 500
_SILENCE = b"\xff"  # mu-law's zero
_AMPLITUDE = 8_000  # of 32,767 each: about -9 dBm0 for the pair, within Q.24's range

KEYS = frozenset(_TONES) | {"w"}
MOST_KEYS = 40


def is_dialable(digits: object) -> bool:
    """Return True if the text is one to forty keys; ``w`` is a pause of half a second."""
    return isinstance(digits, str) and 0 < len(digits) <= MOST_KEYS and KEYS.issuperset(digits)


def tones(digits: str) -> bytes:
    """Return base64 of mu-law at 8 kHz for keys that :func:`is_dialable` accepts."""
    gap = _SILENCE * (_GAP_MS * BYTES_PER_MS)
    wait = _SILENCE * (_WAIT_MS * BYTES_PER_MS)
    sound = b"".join(wait if key == "w" else _tone(*_TONES[key]) + gap for key in digits)
    return base64.b64encode(sound)


@lru_cache(maxsize=16)
def _tone(low: int, high: int) -> bytes:
    rate = BYTES_PER_MS * 1000
    return bytes(
        _mulaw(
            round(
                _AMPLITUDE
                * (
                    math.sin(2 * math.pi * low * sample / rate)
                    + math.sin(2 * math.pi * high * sample / rate)
                )
            )
        )
        for sample in range(_TONE_MS * BYTES_PER_MS)
    )


def _mulaw(sample: int) -> int:
    """Return the G.711 mu-law byte of a linear sample (15 bits and a sign)."""
    sign = 0x80 if sample < 0 else 0
    magnitude = abs(sample) + 132
    exponent = magnitude.bit_length() - 8
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return ~(sign | exponent << 4 | mantissa) & 0xFF
