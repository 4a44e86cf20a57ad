"""Token counts, close enough to the real model's to develop against.

A token is 100 ms of the caller's audio, 50 ms of the model's, or four characters of text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
CHARACTERS_PER_TOKEN = 4
# The cache holds whole blocks of a prompt.
CACHE_BLOCK = 64
TOKENS_PER_MINUTE = 15_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    text: int = 0
    audio: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.text + other.text, self.audio + other.audio)

    @property
    def total(self) -> int:
        return self.text + self.audio


def text_tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


class Meter:
    """Counts the tokens of a session: what one response has read is cached for the next."""

    def __init__(self) -> None:
        self._read = Tokens()
        self._total = 0

    def count(self, given: Tokens, made: Tokens) -> dict[str, Any]:
        """Return the ``usage`` of a response that read ``given`` and wrote ``made``."""
        cached = Tokens(
            _blocks(min(self._read.text, given.text)), _blocks(min(self._read.audio, given.audio))
        )
        self._read = given + made
        self._total += given.total + made.total
        return {
            "total_tokens": given.total + made.total,
            "input_tokens": given.total,
            "output_tokens": made.total,
            "input_token_details": {
                "text_tokens": given.text,
                "audio_tokens": given.audio,
                "image_tokens": 0,
                "cached_tokens": cached.total,
                "cached_tokens_details": {
                    "text_tokens": cached.text,
                    "audio_tokens": cached.audio,
                    "image_tokens": 0,
                },
            },
            "output_token_details": {"text_tokens": made.text, "audio_tokens": made.audio},
        }

    def rate_limits(self) -> list[dict[str, Any]]:
        return [
            {
                "name": "tokens",
                "limit": TOKENS_PER_MINUTE,
                "remaining": max(0, TOKENS_PER_MINUTE - self._total),
                "reset_seconds": 0.001,
            }
        ]


class BackendMeter:
    """Counts the tokens of a delegated Responses model, which reads and writes text."""

    def __init__(self) -> None:
        self._read = 0

    def count(self, given: int, made: int) -> dict[str, Any]:
        """Return the ``usage`` of a response that read ``given`` tokens and wrote ``made``."""
        cached = _blocks(min(self._read, given))
        self._read = given + made
        return {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + made,
        }


def transcription_usage(model: str, duration_ms: float, transcript: str) -> dict[str, Any]:
    """Return the ``usage`` of a transcription: tokens or seconds, depending on the model."""
    if not model.startswith("gpt-4o"):
        return {"type": "duration", "seconds": round(duration_ms / 1000, 2)}
    heard = -int(-duration_ms // INPUT_MS_PER_TOKEN)
    written = text_tokens(transcript)
    return {
        "type": "tokens",
        "total_tokens": heard + written,
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": written,
    }


def _blocks(tokens: int) -> int:
    return tokens - tokens % CACHE_BLOCK
