"""Reads and writes Twilio's media stream messages. ``relay`` handles most audio without parsing.

``text`` is not one of Twilio's messages: a browser sends it in a test call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from telephony.engine.events import CallerHungUp, CallerTyped, DigitPressed, MarkPlayed

_NAME = re.compile(r"[!#-\[\]-~]{1,100}")  # ASCII that JSON does not escape
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_KEY = re.compile(r"[0-9A-D*#]")
_ANY = re.compile(r"(?s).*")


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The start of a stream: its call, and the parameters that our TwiML gave it."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]
    format: str


@dataclass(frozen=True, slots=True)
class CallerAudio:
    """A frame: base64 of mu-law at 8 kHz."""

    payload: bytes


def decode(
    message: Mapping[str, Any],
) -> StreamStarted | CallerAudio | DigitPressed | CallerTyped | MarkPlayed | CallerHungUp | None:
    """Return the event of a parsed message; None if it changes nothing.

    Raises KeyError, TypeError or ValueError if a required field is missing or invalid.
    """
    match message.get("event"):
        case "start":
            start = message["start"]
            media = start["mediaFormat"]
            parameters = start.get("customParameters") or {}
            return StreamStarted(
                stream_sid=_matching(_NAME, start["streamSid"]),
                call_sid=_matching(_NAME, start["callSid"]),
                account_sid=_matching(_NAME, start["accountSid"]),
                parameters={name: _matching(_ANY, value) for name, value in parameters.items()},
                format=f"{media['encoding']};rate={media['sampleRate']};channels={media['channels']}",
            )
        case "media":
            payload = _matching(_BASE64, message["media"]["payload"])
            is_callers = message["media"].get("track", "inbound") == "inbound"
            return CallerAudio(payload.encode()) if payload and is_callers else None
        case "dtmf":
            return DigitPressed(_matching(_KEY, message["dtmf"]["digit"]))
        case "text":
            return CallerTyped(_matching(_ANY, message["text"]["body"]))
        case "mark":
            return MarkPlayed(_matching(_NAME, message["mark"]["name"]))
        case "stop":
            return CallerHungUp()
    return None


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    """Return the text, or raise: later messages contain it without escaping or a check."""
    if not pattern.fullmatch(value):
        raise ValueError("a text of another shape")
    return str(value)


MULAW = "audio/x-mulaw;rate=8000;channels=1"


class Encoder:
    """Writes the messages for one stream."""

    def __init__(self, stream_sid: str) -> None:
        sid = stream_sid.encode("ascii")
        self.before_media = b'{"event":"media","streamSid":"' + sid + b'","media":{"payload":"'
        self._mark = b'{"event":"mark","streamSid":"' + sid + b'","mark":{"name":"'
        self._clear = b'{"event":"clear","streamSid":"' + sid + b'"}'

    def media(self, payload: bytes) -> bytes:
        return self.before_media + payload + b'"}}'

    def mark(self, name: str) -> bytes:
        return self._mark + name.encode("ascii") + b'"}}'

    def clear(self) -> bytes:
        return self._clear
