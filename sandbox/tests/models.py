"""Helpers for tests of the model in either protocol."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from typing import Any

from sandbox import speech

_AUDIO = ("response.output_audio.delta", "session.output_audio.delta")


class AnyClient(ABC):
    """A client without a socket."""

    @abstractmethod
    def send(self, *events: dict[str, Any]) -> list[Any]:
        """Return the output: events, and a Close or Drop."""

    def error(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Send events that are all refused with one error; return it."""
        [event] = self.send(*events)
        assert event["type"] == "error"
        return dict(event["error"])


def function_tool(name: str, /, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "name": name, "description": "", "parameters": parameters}


def of(events: list[Any], *kinds: str) -> list[dict[str, Any]]:
    """Return the events of these types."""
    return [event for event in events if isinstance(event, dict) and event["type"] in kinds]


def only(events: list[Any], kind: str) -> dict[str, Any]:
    """Return the one event of that type."""
    [event] = of(events, kind)
    return event


def audio_of(events: list[Any]) -> bytes:
    return b"".join(base64.b64decode(event["delta"]) for event in of(events, *_AUDIO))


def heard(events: list[Any]) -> str:
    """Return what the caller hears of these events."""
    return speech.hear([audio_of(events)])
