"""Sound that carries text: what the sandbox's callers and its model say, and how they understand.

Audio is mu-law at 8 kHz, as Twilio and the realtime model exchange it. Each byte of the text's
UTF-8 is a chord of two tones, 40 ms long, in two 20 ms frames: the onset swells, the release fades.
The product passes audio on unchanged, so a listener looks each frame up and understands exactly
what was said: a frame that was lost, doubled or reordered on the way shows in the text.
"""

from __future__ import annotations

import codecs
import math
import re
import sys
import wave
from array import array
from collections.abc import Iterable
from functools import cache
from itertools import zip_longest
from typing import BinaryIO

SAMPLE_RATE = 8_000
FRAME_MS = 20
FRAME_BYTES = SAMPLE_RATE * FRAME_MS // 1000
SILENCE = b"\xff" * FRAME_BYTES
# Text that stands for an unintelligible sound.
UNKNOWN = "…"

# Every frame begins with negative zero, which is as silent as 0xFF but never part of a silence.
_START = 0x7F
# Tones of whole periods per frame, so that chords follow each other without a click. The lower one
# tells the byte's last four bits: it is the one that moves from letter to letter.
_LOW_TONES = range(300, 1_100, 50)
_HIGH_TONES = range(1_100, 1_900, 50)
_LOW_VOLUME = 4_500
_HIGH_VOLUME = 1_500
_FADE_SAMPLES = 80

_BREATH = ord(" ")
_SILENT_BYTES = re.compile(rb"\xff*")


def frames(text: str) -> list[bytes]:
    """Return the 20 ms frames (160 bytes each) that say the text.

    White space becomes one short silence. Each text begins with one, so that two consecutive texts
    are heard as two words.
    """
    spoken = "".join(f" {word}" for word in text.split())
    table = _sounds()
    return [frame for byte in spoken.encode(errors="replace") for frame in table[byte]]


def duration_ms(text: str) -> int:
    """Return the duration of the spoken text."""
    return len(frames(text)) * FRAME_MS


def hear(audio: Iterable[bytes]) -> str:
    """Return the text in the audio; its pieces may have any length.

    A sound that is not speech becomes "…". Speech that begins or stops within a letter is
    understood as far as possible.
    """
    ear = Ear()
    return normal("".join(map(ear.listen, audio)) + ear.finish())


def normal(text: str) -> str:
    """Return the text as it is understood when spoken: all white space becomes one space."""
    return " ".join(text.split())


def is_silence(audio: bytes) -> bool:
    """Return True if nobody speaks. The short silence between two words is part of speech."""
    return not audio.strip(b"\xff")


class Ear:
    """Understands audio as it arrives, in pieces of any length."""

    def __init__(self) -> None:
        self._audio = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")(_UNKNOWN_BYTES)
        self._release_of: int | None = None
        self._noise = 0

    @property
    def is_puzzled(self) -> bool:
        """True if the latest sound was not speech."""
        return self._noise > 0

    def listen(self, audio: bytes) -> str:
        """Return the text that this piece completes; it may be empty."""
        self._audio += audio
        said: list[str] = []
        meanings = _meanings()
        at = 0
        while True:
            at = _end_of_silence(self._audio, at)
            frame = self._audio[at : at + FRAME_BYTES]
            if len(frame) < FRAME_BYTES:
                break
            if sound := meanings.get(frame):
                said.append(self._understand(*sound))
                at += FRAME_BYTES
            else:
                after = _next_start(self._audio, at + 1)
                said.append(self._wonder(after - at))
                at = after
        self._audio = self._audio[at:]
        return "".join(said)

    def finish(self) -> str:
        """Return the rest of the text, for audio that ended within a letter or a sound."""
        return self._wonder(len(self._audio)) + self._decoder.decode(b"", final=True)

    def _understand(self, byte: int, is_release: bool) -> str:
        self._noise = 0
        heard_already = is_release and self._release_of == byte
        self._release_of = None if is_release else byte
        return "" if heard_already else self._decoder.decode(bytes((byte,)))

    def _wonder(self, length: int) -> str:
        """Return "…" once for the unknown sound between two letters, unless it is only a click."""
        before, self._noise = self._noise, self._noise + length
        return UNKNOWN if before < FRAME_BYTES <= self._noise else ""


def hold_tone(seconds: float) -> bytes:
    """Return a soft tone in place of sound that is not speech, such as music."""
    frame = bytes(to_mulaw(round(_HIGH_VOLUME * x)) for x in _tone(450))
    return frame * round(seconds * 1000 / FRAME_MS)


def frames_of_pcm24(audio: bytes) -> list[bytes]:
    """Return 16-bit PCM at 24 kHz, little-endian, as 20 ms frames of mu-law at 8 kHz."""
    samples = array("h", audio)
    if sys.byteorder == "big":
        samples.byteswap()
    codes = bytes(map(to_mulaw, samples[::3]))
    starts = range(0, len(codes), FRAME_BYTES)
    return [codes[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\xff") for at in starts]


def write_wav(file: BinaryIO | str, caller: Iterable[bytes], agent: Iterable[bytes]) -> None:
    """Write a stereo WAV: the caller on the left, the agent on the right, both from time zero."""
    left, right = b"".join(caller), b"".join(agent)
    samples = array("h")
    for pair in zip_longest(left, right, fillvalue=0xFF):
        samples.extend((_LINEAR[pair[0]], _LINEAR[pair[1]]))
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(2)
        recording.setsampwidth(2)
        recording.setframerate(SAMPLE_RATE)
        recording.writeframes(samples.tobytes())


def to_mulaw(sample: int) -> int:
    """Return the G.711 mu-law code of a signed 16-bit sample."""
    sign, magnitude = (0x80, -sample) if sample < 0 else (0, sample)
    magnitude = min(magnitude, 32_635) + 0x84
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> (exponent + 3) & 0x0F) & 0xFF


def to_linear(code: int) -> int:
    """Return the signed 16-bit sample of a G.711 mu-law code."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 0x07)) - 0x84
    return -magnitude if code & 0x80 else magnitude


_LINEAR = [to_linear(code) for code in range(256)]

_UNKNOWN_BYTES = "sandbox.speech.unknown"
codecs.register_error(_UNKNOWN_BYTES, lambda error: (UNKNOWN, error.end))  # type: ignore[attr-defined]


def _end_of_silence(audio: bytes, at: int) -> int:
    match = _SILENT_BYTES.match(audio, at)
    return match.end() if match else at


def _next_start(audio: bytes, at: int) -> int:
    found = audio.find(_START, at)
    return len(audio) if found < 0 else found


@cache
def _sounds() -> list[tuple[bytes, bytes]]:
    """Return onset and release of every byte."""
    swell = [math.sin(math.pi / 2 * i / _FADE_SAMPLES) ** 2 for i in range(_FADE_SAMPLES)]
    hold = [1.0] * (FRAME_BYTES - _FADE_SAMPLES)
    return [
        (_frame(byte, swell + hold, 0), _frame(byte, hold + swell[::-1], 1)) for byte in range(256)
    ]


def _frame(byte: int, envelope: list[float], half: int) -> bytes:
    if byte == _BREATH:
        # Both halves are silent: where the second zero stands tells them apart.
        return bytes((_START, *([0xFF] * half), _START)).ljust(FRAME_BYTES, b"\xff")
    low = _tone(_LOW_TONES[byte & 0x0F])
    high = _tone(_HIGH_TONES[byte >> 4])
    samples = (
        round(volume * (_LOW_VOLUME * x + _HIGH_VOLUME * y))
        for volume, x, y in zip(envelope, low, high, strict=True)
    )
    return bytes((_START, *[to_mulaw(sample) for sample in samples][1:]))


@cache
def _tone(hertz: int) -> list[float]:
    return [math.sin(2 * math.pi * hertz * i / SAMPLE_RATE) for i in range(FRAME_BYTES)]


@cache
def _meanings() -> dict[bytes, tuple[int, bool]]:
    """Return the byte that each frame encodes, and whether the frame is its release."""
    return {
        frame: (byte, bool(half))
        for byte, halves in enumerate(_sounds())
        for half, frame in enumerate(halves)
    }
