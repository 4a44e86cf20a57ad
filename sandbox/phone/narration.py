"""Describes a call for a person, line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

_PURPOSES = {
    "voice": "asks what to do with the call",
    "redirect": "asks what to do next",
    "action": "asks what to do after that",
    "gather": "hands over what was entered",
    "status": "tells how the call stands",
    "stream-status": "tells about the media stream",
}
_SHOWN_ATTRIBUTES = ("reason", "length", "action", "number")

Line = tuple[str, str]


def narrate(event: Mapping[str, Any]) -> str | None:
    """Return the line that describes the event, or None if there is nothing to say.

    :param event: ``at``, ``kind`` and the event's details, as the control API sends them.
    """
    tell = _TELLERS.get(event["kind"])
    line = tell(event) if tell else None
    if line is None:
        return None
    who, what = line
    return f"{event['at']:7.2f} s  {who:<8} {what}"


def _request(event: Mapping[str, Any]) -> Line:
    purpose, parameters = event["purpose"], event["parameters"]
    news = parameters.get("StreamEvent") or parameters.get("CallStatus", "")
    what = _PURPOSES.get(purpose, purpose)
    path = urlsplit(event["url"]).path
    return "carrier", f"{what} ({news}): POST {_shortened(path)}"


def _response(event: Mapping[str, Any]) -> Line | None:
    if event["purpose"] in ("status", "stream-status"):
        return None
    return "product", f"answers {event['status']} after {event['milliseconds']} ms"


def _verb(event: Mapping[str, Any]) -> Line:
    shown = [
        f'{name}="{_shortened(value)}"'
        for name, value in event["attributes"].items()
        if name in _SHOWN_ATTRIBUTES
    ]
    opening = " ".join([event["verb"], *shown])
    text = event["text"]
    return "carrier", f"<{opening}>{text}</{event['verb']}>" if text else f"<{opening}/>"


def _heard(event: Mapping[str, Any]) -> Line:
    cut_off = " (cut off)" if event["cut_off"] else ""
    return "agent", f"“{event['text']}”{cut_off}"


def _ended(event: Mapping[str, Any]) -> Line:
    return "carrier", f"the call is {event['status']}; it took {event['duration']} s"


_TELLERS: dict[str, Callable[[Mapping[str, Any]], Line | None]] = {
    "dials-in": lambda e: ("caller", f"{e['caller']} rings {e['number']} ({e['call_sid']})"),
    "queued": lambda e: ("carrier", f"is to call {e['number']} from {e['caller']}"),
    "rings": lambda e: ("callee", f"the phone rings at {e['number']}"),
    "request": _request,
    "response": _response,
    "no-response": lambda e: ("product", f"does not answer: {e['message']}"),
    "answered": lambda e: ("carrier", "the call is answered"),
    "answered-by": lambda e: ("carrier", f"it was answered by: {e['who']}"),
    "twiml": _verb,
    "warning": lambda e: ("carrier", f"warning {e['code']}: {e['message']}"),
    "error": lambda e: ("carrier", f"ERROR {e['code']}: {e['message']}"),
    "plays": lambda e: ("agent", f"♪ {e['url']} ({e['seconds']} s)"),
    "stream-connected": lambda e: ("carrier", f"media stream open: {e['url']}"),
    "stream-closed": lambda e: (
        (e["by"], "closes the media stream") if e["by"] != "nobody" else None
    ),
    "socket-dropped": lambda e: ("carrier", "drops the socket"),
    "says": lambda e: ("person", f"“{e['text']}”"),
    "presses": lambda e: ("person", f"presses {e['digit']}"),
    "heard": _heard,
    "key-tone": lambda e: ("agent", f"presses {e['digit']}"),
    "clear": lambda e: ("product", f"interrupts the agent: {e['dropped_ms']} ms unsaid"),
    "dials": lambda e: ("carrier", f"puts the call through to {e['number']}"),
    "dial-answered": lambda e: ("carrier", f"{e['number']} answers"),
    "dial-ended": lambda e: ("carrier", f"the call with {e['number']} is over: {e['status']}"),
    "hang-up": lambda e: (e["by"], "hangs up"),
    "ended": _ended,
}


def _shortened(text: str) -> str:
    """Return an address in which signed tokens do not fill the screen."""
    return "/".join(part if len(part) <= 24 else f"{part[:12]}…" for part in text.split("/"))
