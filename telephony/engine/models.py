"""What is known of OpenAI's models: protocols, prices and retirement dates, from ``models.toml``.

A model without an entry is allowed: OpenAI may have released it yesterday.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

Protocol = Literal["realtime", "live"]

_DATA: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent / "models.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens."""

    input: Decimal
    cached: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class TokenPrices:
    text: Price
    audio: Price


@dataclass(frozen=True, slots=True)
class Model:
    """A model. ``ends`` is the day on which OpenAI turns it off; ``instead`` replaces it then.

    Prices are None if they are unknown, or if it is not billed so. ``per_minute`` is USD for a
    minute of the session, and ``backend`` the price of the model that such a session delegates to.
    """

    name: str
    protocol: Protocol
    ends: date | None = None
    instead: str = ""
    tokens: TokenPrices | None = None
    per_minute: Decimal | None = None
    features: frozenset[str] = frozenset()
    backend: Price | None = None


def _model(name: str, entry: Mapping[str, Any]) -> Model:
    per_minute = entry.get("per_minute")
    return Model(
        name,
        entry["protocol"],
        entry.get("ends"),
        entry.get("instead", ""),
        _tokens(entry) if "text" in entry else None,
        Decimal(per_minute) if per_minute else None,
        frozenset([*_DATA["features"][entry["protocol"]], *entry.get("features", ())]),
        _price(entry["backend"]) if "backend" in entry else None,
    )


def _tokens(entry: Mapping[str, Any]) -> TokenPrices:
    return TokenPrices(_price(entry["text"]), _price(entry["audio"]))


def _price(entry: Mapping[str, str]) -> Price:
    return Price(**{kind: Decimal(amount) for kind, amount in entry.items()})


MODELS: Mapping[str, Model] = {name: _model(name, entry) for name, entry in _DATA["models"].items()}
UNLISTED_MODEL: str = _DATA["unlisted"]
_UNLISTED = _tokens(_DATA["models"][UNLISTED_MODEL])
SEEN: date = _DATA["seen"]
DEFAULT_MODEL: str = _DATA["default"]
TRANSCRIPTION_MODEL: str = _DATA["transcription"]["model"]
TRANSCRIPTION_PER_MINUTE = Decimal(_DATA["transcription"]["per_minute"])


def model_of(name: str) -> Model | None:
    """Return what is known of a model, or of the one that it is a dated snapshot of."""
    if name in MODELS:
        return MODELS[name]
    names = [each for each in MODELS if name.startswith(f"{each}-20")]
    return MODELS[max(names, key=len)] if names else None


def lacks(name: str, feature: str) -> bool:
    """Return True if the model is known not to have a feature that a field of the plan needs."""
    model = model_of(name)
    return model is not None and feature not in model.features


def token_prices_of(name: str) -> TokenPrices:
    """Return the prices of a model; those of ``unlisted`` if they are unknown."""
    model = model_of(name)
    return (model and model.tokens) or _UNLISTED


# How long before its end a model is warned of.
WARNED_FOR = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Retirement:
    """A model that OpenAI turns off soon, or has turned off."""

    model: str
    ends: date
    instead: str
    is_over: bool

    def __str__(self) -> str:
        verb = "retired" if self.is_over else "retires"
        return (
            f"OpenAI {verb} {self.model} on {self.day}. Use another model, such as {self.instead}."
        )

    @property
    def day(self) -> str:
        """The day as a text: ``20 January 2027``."""
        return f"{self.ends.day} {self.ends:%B %Y}"


def retirement_of(name: str, today: date) -> Retirement | None:
    """Return the retirement of a model if it is less than 90 days off, or over."""
    model = model_of(name)
    if model is None or model.ends is None or model.ends > today + WARNED_FOR:
        return None
    return Retirement(model.name, model.ends, model.instead, model.ends <= today)
