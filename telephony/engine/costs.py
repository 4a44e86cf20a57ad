"""Estimates of what OpenAI and Twilio charge for a call, from the prices in ``prices.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

PRICES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "prices.json").read_text(encoding="utf-8")
)
_MILLION = Decimal(1_000_000)
_SIX_PLACES = Decimal("0.000001")
# The North American toll-free area codes.
_TOLL_FREE = ("800", "833", "844", "855", "866", "877", "888")


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens by kind (``*_in`` excludes cached ones), and seconds of transcribed speech."""

    text_in: int = 0
    audio_in: int = 0
    text_cached: int = 0
    audio_cached: int = 0
    text_out: int = 0
    audio_out: int = 0
    transcribed_seconds: float = 0.0

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )


def openai_cost(model: str, usage: TokenUsage) -> Decimal:
    """Return USD with six decimals; a model without a listed price costs as the default one."""
    prices = PRICES["openai"]
    price = prices["models"].get(_listed(model), prices["models"][prices["unlisted_model"]])
    text, audio = price["text"], price["audio"]
    per_million = (
        usage.text_in * Decimal(text["input"])
        + usage.text_cached * Decimal(text["cached"])
        + usage.text_out * Decimal(text["output"])
        + usage.audio_in * Decimal(audio["input"])
        + usage.audio_cached * Decimal(audio["cached"])
        + usage.audio_out * Decimal(audio["output"])
    )
    minutes = Decimal(str(usage.transcribed_seconds)) / 60
    transcription = minutes * Decimal(prices["transcription_per_minute"])
    return (per_million / _MILLION + transcription).quantize(_SIX_PLACES)


def _listed(model: str) -> str:
    """Return the longest listed name that the model is, or is a dated snapshot of; or ""."""
    names = [
        name
        for name in PRICES["openai"]["models"]
        if model == name or model.startswith(f"{name}-20")
    ]
    return max(names, key=len, default="")


def twilio_cost(direction: str, our_number: str, minutes: int) -> Decimal:
    """Return USD for a US call of that many started minutes, including its media stream."""
    prices = PRICES["twilio"]
    if direction == "outbound":
        per_minute = Decimal(prices["outbound"])
    elif our_number.startswith(tuple(f"+1{code}" for code in _TOLL_FREE)):
        per_minute = Decimal(prices["inbound_toll_free"])
    else:
        per_minute = Decimal(prices["inbound_local"])
    return minutes * (per_minute + Decimal(prices["media_stream"]))
