"""Voice activity detection: where speech starts and stops in the appended audio.

Audio is mu-law at 8 kHz. Time is counted in audio, so it does not matter when a frame arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BYTES_PER_MS = 8
FRAME_MS = 20
FRAME_BYTES = FRAME_MS * BYTES_PER_MS

# Sound shorter than this is a click.
SHORTEST_SPEECH_MS = 40
# How long a caller may pause within a turn. The real model judges by the words.
PAUSE_MS = {"high": 300, "medium": 500, "auto": 500, "low": 1_000}
SEMANTIC_PREFIX_MS = 300
# Mean loudness of a frame that counts as sound at threshold 1. A loud voice reaches about 100.
LOUDNESS_AT_FULL_THRESHOLD = 80
# Loudness of a mu-law byte: its magnitude, which is stored inverted and already logarithmic.
_LOUDNESS = bytes(~code & 0x7F for code in range(256))


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    at_ms: int


@dataclass(frozen=True, slots=True)
class VadSettings:
    pause_ms: int = 500
    prefix_ms: int = 300
    threshold: float = 0.5

    @classmethod
    def of(cls, turn_detection: Mapping[str, Any]) -> VadSettings:
        """Parse the session's ``turn_detection``."""
        if turn_detection["type"] == "semantic_vad":
            return cls(PAUSE_MS[turn_detection["eagerness"]], SEMANTIC_PREFIX_MS)
        return cls(
            turn_detection["silence_duration_ms"],
            turn_detection["prefix_padding_ms"],
            turn_detection["threshold"],
        )


class InputBuffer:
    """The input audio buffer, with voice activity detection unless ``vad`` is None."""

    def __init__(self) -> None:
        self.vad: VadSettings | None = None
        self._audio = bytearray()
        self._start_ms = 0  # of the buffer, since the session began
        self._unheard = b""  # less than a frame
        self._speaking = False
        self._loud_ms = 0
        self._quiet_ms = 0

    @property
    def duration_ms(self) -> float:
        return (len(self._audio) + len(self._unheard)) / BYTES_PER_MS

    def append(self, audio: bytes) -> Iterator[SpeechStarted | SpeechStopped]:
        """Add audio of any length; yield each detection at its position.

        The consumer may take the buffer's audio when speech has stopped.
        """
        audio = self._unheard + audio
        whole = len(audio) - len(audio) % FRAME_BYTES
        self._unheard = audio[whole:]
        for at in range(0, whole, FRAME_BYTES):
            frame = audio[at : at + FRAME_BYTES]
            self._audio += frame
            if self.vad:
                yield from self._listen(frame, self.vad)

    def take(self) -> bytes:
        """Empty the buffer; return its audio."""
        audio = bytes(self._audio + self._unheard)
        self._start_ms += len(self._audio) // BYTES_PER_MS
        self._audio.clear()
        self._unheard = b""
        self._speaking = False
        self._loud_ms = self._quiet_ms = 0
        return audio

    def _listen(self, frame: bytes, vad: VadSettings) -> Iterator[SpeechStarted | SpeechStopped]:
        loudness = sum(frame.translate(_LOUDNESS)) / len(frame)
        if loudness > vad.threshold * LOUDNESS_AT_FULL_THRESHOLD:
            self._loud_ms += FRAME_MS
            self._quiet_ms = 0
        else:
            self._quiet_ms += FRAME_MS
        if self._speaking:
            if self._quiet_ms >= vad.pause_ms:
                self._speaking = False
                self._loud_ms = 0
                yield SpeechStopped(self._end_ms)
        elif self._loud_ms >= SHORTEST_SPEECH_MS:
            self._speaking = True
            self._keep_last(self._loud_ms + self._quiet_ms + vad.prefix_ms)
            yield SpeechStarted(self._start_ms)
        elif self._quiet_ms >= SHORTEST_SPEECH_MS:
            self._loud_ms = 0
            self._keep_last(vad.prefix_ms + SHORTEST_SPEECH_MS)

    @property
    def _end_ms(self) -> int:
        return self._start_ms + len(self._audio) // BYTES_PER_MS

    def _keep_last(self, ms: int) -> None:
        """Drop older audio: silence is not worth an item in the conversation."""
        surplus = len(self._audio) - ms * BYTES_PER_MS
        if surplus > 0:
            del self._audio[:surplus]
            self._start_ms += surplus // BYTES_PER_MS
