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


_FREE = Price(Decimal(0), Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs. ``per_minute`` is USD for a minute of the session."""

    text: Price
    audio: Price
    per_minute: Decimal


@dataclass(frozen=True, slots=True)
class Model:
    """A model. ``ends`` is the day on which OpenAI turns it off; ``instead`` replaces it then.

    ``prices`` is None if they are unknown. ``features`` are what fields of a call's configuration
    can need, and what the engine must know.
    """

    name: str
    protocol: Protocol
    ends: date | None = None
    instead: str = ""
    prices: Prices | None = None
    features: frozenset[str] = frozenset()


def _model(name: str, entry: Mapping[str, Any]) -> Model:
    return Model(
        name,
        entry["protocol"],
        entry.get("ends"),
        entry.get("instead", ""),
        _prices(entry) if "text" in entry else None,
        frozenset([*_DATA["features"][entry["protocol"]], *entry.get("features", ())]),
    )


def _prices(entry: Mapping[str, Any]) -> Prices:
    audio = _price(entry["audio"]) if "audio" in entry else _FREE
    return Prices(_price(entry["text"]), audio, Decimal(entry.get("per_minute", 0)))


def _price(entry: Mapping[str, str]) -> Price:
    return Price(**{kind: Decimal(amount) for kind, amount in entry.items()})


MODELS: Mapping[str, Model] = {name: _model(name, entry) for name, entry in _DATA["models"].items()}
UNLISTED: Mapping[Protocol, str] = _DATA["unlisted"]
_UNLISTED_PRICES = {protocol: _prices(_DATA["models"][name]) for protocol, name in UNLISTED.items()}
SEEN: date = _DATA["seen"]
DEFAULT_MODEL: str = _DATA["default"]
BACKEND_MODEL: str = _DATA["backend"]["model"]
TRANSCRIPTION_MODEL: str = _DATA["transcription"]["model"]
TRANSCRIPTION_PER_MINUTE = Decimal(_DATA["transcription"]["per_minute"])


def model_of(name: str) -> Model | None:
    """Return what is known of a model, or of the one that it is a dated snapshot of."""
    if name in MODELS:
        return MODELS[name]
    names = [each for each in MODELS if name.startswith(f"{each}-20")]
    return MODELS[max(names, key=len)] if names else None


def lacks(name: str, feature: str) -> bool:
    """Return True if the model is known not to have a feature, which a field of the plan may need.

    An unlisted model may have whatever another one of its protocol has: no codec sends the rest.
    """
    if model := model_of(name):
        return feature not in model.features
    alike = (each for each in MODELS.values() if each.protocol == protocol_of(name))
    return not any(feature in each.features for each in alike)


def protocol_of(name: str) -> Protocol:
    """Return the protocol of a model; that of an unlisted one follows from its name."""
    if model := model_of(name):
        return model.protocol
    return "live" if name.startswith("gpt-live") else "realtime"


def prices_of(name: str) -> Prices:
    """Return the prices of a model or, if they are unknown, of the one that stands for it."""
    model = model_of(name)
    return (model and model.prices) or _UNLISTED_PRICES[protocol_of(name)]


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
