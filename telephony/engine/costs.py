"""Estimates of what OpenAI and Twilio charge for a call.

OpenAI's prices are in ``models.toml``, Twilio's in ``prices.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from telephony.engine.models import TRANSCRIPTION_PER_MINUTE, prices_of

_TWILIO: dict[str, Any] = json.loads(
    (Path(__file__).parent / "prices.json").read_text(encoding="utf-8")
)["twilio"]
_MILLION = Decimal(1_000_000)
_SIX_PLACES = Decimal("0.000001")
# The North American toll-free area codes.
_TOLL_FREE = ("800", "833", "844", "855", "866", "877", "888")


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens by kind (``*_in`` excludes cached ones), and seconds.

    ``transcribed_seconds`` are those of transcribed speech, ``session_seconds`` those of sessions
    with a model that is billed by the minute.
    """

    text_in: int = 0
    audio_in: int = 0
    text_cached: int = 0
    audio_cached: int = 0
    text_out: int = 0
    audio_out: int = 0
    transcribed_seconds: float = 0.0
    session_seconds: float = 0.0

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )


def openai_cost(model: str, usage: TokenUsage) -> Decimal:
    """Return USD with six decimals; a model without a listed price costs as another one."""
    prices = prices_of(model)
    text, audio = prices.text, prices.audio
    per_million = (
        usage.text_in * text.input
        + usage.text_cached * text.cached
        + usage.text_out * text.output
        + usage.audio_in * audio.input
        + usage.audio_cached * audio.cached
        + usage.audio_out * audio.output
    )
    minutes = Decimal(str(usage.transcribed_seconds)) / 60
    transcription = minutes * TRANSCRIPTION_PER_MINUTE
    session = Decimal(str(usage.session_seconds)) / 60 * prices.per_minute
    return (per_million / _MILLION + transcription + session).quantize(_SIX_PLACES)


def twilio_cost(direction: str, our_number: str, minutes: int) -> Decimal:
    """Return USD for a US call of that many started minutes, including its media stream."""
    if direction == "outbound":
        per_minute = Decimal(_TWILIO["outbound"])
    elif our_number.startswith(tuple(f"+1{code}" for code in _TOLL_FREE)):
        per_minute = Decimal(_TWILIO["inbound_toll_free"])
    else:
        per_minute = Decimal(_TWILIO["inbound_local"])
    return minutes * (per_minute + Decimal(_TWILIO["media_stream"]))
