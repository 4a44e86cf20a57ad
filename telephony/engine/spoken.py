"""A greeting as a model said it, and the audio of the model that may be one.

Audio is mu-law at 8 kHz, mono: a byte is a sample.
"""

from __future__ import annotations

import binascii
import unicodedata
from dataclasses import dataclass, field

from telephony.engine.audio import audio_size
from telephony.engine.playback import BYTES_PER_MS

# A greeting takes a few seconds. A longer one is not worth its room: its caller waits for words
# that follow, and not for the first.
LONGEST_BYTES = 30_000 * BYTES_PER_MS


@dataclass(frozen=True, slots=True)
class SpokenGreeting:
    """The audio of a greeting, at most ``LONGEST_BYTES``, and its transcript."""

    audio: bytes = field(repr=False)
    text: str = field(repr=False)


class GreetingAudio:
    """The audio of the model's item that came last: that of the greeting, if nothing follows it."""

    def __init__(self) -> None:
        self._item_id = ""
        self._frames: list[bytes] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Return True if the item is too long to be kept, so that no more of it is added."""
        return self._size > LONGEST_BYTES

    def add(self, item_id: str, payload: bytes) -> None:
        """Add a frame: base64."""
        if item_id != self._item_id:
            self._item_id, self._frames, self._size = item_id, [], 0
        if not self.is_full:
            self._frames.append(payload)
            self._size += audio_size(payload)

    def audio_of(self, item_id: str) -> bytes:
        """Return all audio of an item; b"" if another one came last, or it is too long."""
        if item_id != self._item_id or self.is_full:
            return b""
        try:
            return b"".join(map(binascii.a2b_base64, self._frames))
        except binascii.Error:
            return b""


def has_same_words(said: str, wanted: str) -> bool:
    """Return True if both texts have the same letters and digits, whatever is between them."""
    letters = _letters(wanted)
    return letters != "" and _letters(said) == letters


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
