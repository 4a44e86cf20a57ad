"""Describes the events of a call in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from sandbox.backend.journal import masked
from sandbox.demo.calls import FollowedCall, Happening
from sandbox.demo.console import Console

Line = tuple[str, str]


async def tell(call: FollowedCall, console: Console, *, person: str) -> None:
    """Describe the call while it runs.

    :param person: the person on the phone: Caller or Callee.
    """
    if call.order is not None:
        console.text("The restaurant's backend sends POST /api/outbound, with")
        console.json(masked(call.order))
    async for happening in call.happenings():
        if happening.source == "backend":
            _tell_callback(happening, console)
        elif line := _told(happening.what, person):
            console.moment(happening.seconds, *line)


def tell_transcript(call: FollowedCall, console: Console, *, person: str) -> None:
    report = call.callback("onCallEnd")
    turns = report["body"]["transcript"] if report else []
    for turn in turns:
        who = "Agent" if turn["role"] == "assistant" else person
        cut_off = " (interrupted)" if turn.get("interrupted") else ""
        console.row(f"{who}:", f"“{turn['text']}”{cut_off}")


def tell_cost(call: FollowedCall, console: Console) -> None:
    report = call.callback("onCallEnd")
    if report is None:
        return
    cost = report["body"]["costBreakdown"]
    console.text(
        f"{report['body']['durationSeconds']} s cost ${cost['totalCost']}: "
        f"${cost['platformCost']} for Switchhook, and an estimated ${cost['twilioCost']} for "
        f"Twilio and ${cost['openaiCost']} for OpenAI on the restaurant's own accounts there."
    )


def _tell_callback(happening: Happening, console: Console) -> None:
    entry = happening.what
    path = urlsplit(_PATHS[entry["callback"]]).path
    signed = entry["signatures"]["standard"]
    console.moment(
        happening.seconds,
        "Switchhook",
        f"{entry['callback']}: POST {path} to the backend, signature {signed}:",
    )
    console.json(entry["body"])
    console.moment(happening.seconds, "Backend", f"answers {entry['status']}:")
    console.json(entry["answer"])


_PATHS = {
    "onCallStart": "/backend/calls/start",
    "onToolCall": "/backend/tools",
    "onCallEnd": "/backend/calls/end",
    "onError": "/backend/calls/error",
}


def _told(event: dict[str, Any], person: str) -> Line | None:
    tell_it = _TELLERS.get(event["kind"])
    return tell_it(event, person) if tell_it else None


def _request(event: dict[str, Any], _person: str) -> Line | None:
    if event["purpose"] not in ("voice", "action"):
        return None
    asked = "what to do with the call" if event["purpose"] == "voice" else "how to go on"
    return "Carrier", f"asks Switchhook {asked}: POST {_shortened(urlsplit(event['url']).path)}"


def _twiml(event: dict[str, Any], _person: str) -> Line:
    return "Switchhook", f"answers with TwiML: <{event['verb']}>"


def _heard(event: dict[str, Any], _person: str) -> Line:
    return "Agent", f"“{event['text']}”{' (interrupted)' if event['cut_off'] else ''}"


def _hangs_up(event: dict[str, Any], person: str) -> Line:
    return (person if event["by"] in ("caller", "callee") else "Switchhook"), "hangs up"


def _ended(event: dict[str, Any], _person: str) -> Line:
    return "Carrier", f"the call is {event['status']} after {event['duration']} s"


_TELLERS: dict[str, Callable[[dict[str, Any], str], Line | None]] = {
    "dials-in": lambda e, p: (p, f"{e['caller']} dials the restaurant, {e['number']}"),
    "queued": lambda e, _: ("Carrier", f"is to call {e['number']} from {e['caller']}"),
    "rings": lambda e, p: (p, f"the phone rings at {e['number']}"),
    "request": _request,
    "no-response": lambda e, _: ("Switchhook", f"does not answer: {e['message']}"),
    "answered": lambda _e, _p: ("Carrier", "the call is answered"),
    "twiml": _twiml,
    "error": lambda e, _: ("Carrier", f"error {e['code']}: {e['message']}"),
    "stream-connected": lambda e, _: ("Carrier", f"the audio is connected: {e['url']}"),
    "says": lambda e, p: (p, f"“{e['text']}”"),
    "heard": _heard,
    "clear": lambda e, _: ("Switchhook", f"stops the agent, {e['dropped_ms']} ms of it unsaid"),
    "hang-up": _hangs_up,
    "ended": _ended,
}


def _shortened(path: str) -> str:
    """Return the path without the signed token, which would fill the line."""
    return "/".join(part if len(part) <= 24 else f"{part[:12]}…" for part in path.split("/"))
