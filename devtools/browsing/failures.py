"""Calls that fail in the ways that customers meet, each on a number of its own.

Everything is real but the other side: the sandbox is the caller, Twilio, OpenAI and the backend.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sandbox.demo.customer import EMAIL, PASSWORD
from sandbox.demo.wire import Wire

CALLER = "+19805551234"
# Unassigned numbers: 555-0100 to 555-0199 are reserved for fiction. The demo takes the first.
_FIRST_LINE = 150
_GREETED: Sequence[dict[str, Any]] = ({"until_connected": True}, {"listen": True})
_HANGS_UP = ({"hang_up": True},)
_ASKS = ({"say": "Where is my order A-1001?"}, {"listen": True})


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure: what the URLs ask of the backend, and what the caller does.

    ``code`` is the call's error code. The call's page has ``cause`` and ``cure`` in it.
    """

    name: str
    code: str
    cause: str
    cure: str
    start: dict[str, str] = field(default_factory=dict)
    end: dict[str, str] = field(default_factory=dict)
    caller: Sequence[dict[str, Any]] = (*_GREETED, *_HANGS_UP)

    @property
    def slug(self) -> str:
        return f"failure-{self.name.lower().replace(' ', '-')}"


# OpenAI takes only the schema of an object.
_WRONG_TOOL = {
    "type": "function",
    "name": "list_orders",
    "description": "Lists orders.",
    "parameters": {"type": "array", "items": {"type": "string"}},
}


FAILURES = (
    Failure(
        "Backend 500",
        "call_start_bad_status",
        cause="responded with status 500",
        cure="Look for the error in your backend",
        start={"error": "500"},
    ),
    Failure(
        "HTML",
        "call_start_bad_answer",
        cause="is not JSON",
        cure="Correct",
        start={"raw": "<!doctype html><title>Welcome</title><h1>It works!</h1>"},
    ),
    Failure(
        "Slow",
        "call_start_timeout",
        cause="no response within 10 seconds",
        cure="do slow work afterwards",
        start={"slow": "30"},
    ),
    Failure(
        "Bad JSON",
        "call_start_bad_answer",
        cause="is not JSON",
        cure="Correct",
        start={"raw": '{"systemPrompt": "You answer the phone'},
    ),
    Failure(
        "Missing field",
        "call_start_bad_answer",
        cause="systemPrompt",
        cure="Correct",
        start={"omit": "systemPrompt"},
    ),
    Failure(
        "Wrong SID",
        "account_sid_mismatch",
        cause="Twilio account",
        cure="Return the SID of the Twilio account that owns the number",
        start={"set": json.dumps({"twilioAccountSid": "AC" + "0" * 28 + "beef"})},
    ),
    Failure(
        "Wrong token",
        "invalid_twilio_signature",
        cause="signature",
        cure="Return the auth token of the Twilio account",
        start={"set": json.dumps({"twilioAuthToken": "0" * 32})},
    ),
    Failure(
        "Wrong OpenAI key",
        "model_invalid_api_key",
        cause="OpenAI refused the API key",
        cure="openaiApiKey",
        start={"set": json.dumps({"openaiApiKey": "sk-proj-this-key-opens-nothing-at-all"})},
    ),
    Failure(
        "Quota",
        "model_insufficient_quota",
        cause="no credit left",
        cure="Add credit",
        start={"greeting": "", "script": json.dumps([{"error": "insufficient_quota"}])},
        caller=({"until_connected": True}, *_ASKS, *_HANGS_UP),
    ),
    Failure(
        "Refused configuration",
        "model_rejected_configuration",
        cause="OpenAI refused the configuration",
        cure="Correct",
        start={"set": json.dumps({"tools": [_WRONG_TOOL]})},
    ),
    Failure(
        "Tool failing",
        "tool_failed",
        cause="A tool failed",
        cure="onToolCall",
        start={"tool-error": "500"},
        caller=(*_GREETED, *_ASKS, *_HANGS_UP),
    ),
    Failure(
        "Callback given up",
        "callback_given_up",
        cause="did not accept a callback",
        cure="from 200 to 299",
        end={"error": "410"},
    ),
)


async def make_failures(api: Wire, sandbox: Wire) -> dict[str, str]:
    """Register a number for each failure, call it, and wait for the end.

    The demo's customer confirms their address first, to get emails. Return the calls' ids by the
    failures' slugs.
    """
    await _confirm_email(api)
    numbers = [f"+1202555{_FIRST_LINE + place:04}" for place in range(len(FAILURES))]
    sids = await asyncio.gather(
        *(
            _fail(api, sandbox, failure, number)
            for failure, number in zip(FAILURES, numbers, strict=True)
        )
    )
    ids = {}
    for failure, sid in zip(FAILURES, sids, strict=True):
        _, answer = await api.ask("GET", f"/api/calls/{sid}")
        ids[failure.slug] = answer["call"]["id"]
    return ids


async def _confirm_email(api: Wire) -> None:
    await api.submit_page(f"{api.base}/login", {"email": EMAIL, "password": PASSWORD})
    link = None
    while link is None:
        mailbox = await api.page(f"{api.base}/sandbox/mail/?to={EMAIL}")
        link = re.search(r'href="(http[^"]+/email/confirm/[^"]+)"', mailbox)
        await asyncio.sleep(0.2)  # until the worker has sent it
    await api.submit_page(link[1])


async def _fail(api: Wire, sandbox: Wire, failure: Failure, number: str) -> str:
    """Make the call; return its CallSid when it has ended and its code is known."""
    backend = f"{sandbox.base}/backend/calls"
    body = {
        "phoneNumber": number,
        "name": failure.name,
        "onCallStartUrl": _url(f"{backend}/start", failure.start),
        "onCallEndUrl": _url(f"{backend}/end", failure.end),
        "onErrorUrl": f"{backend}/error",
    }
    await api.ask("POST", "/api/phone-numbers", body)
    ring = {"to": number, "from": CALLER, "script": list(failure.caller)}
    sid = ""
    async for event in sandbox.lines("POST", "/phone/calls", ring):
        sid = sid or event["call_sid"]
    while True:
        _, answer = await api.ask("GET", f"/api/calls/{sid}")
        if answer["call"]["errorCode"]:
            return sid
        await asyncio.sleep(0.2)  # until the worker has sent the callback


def _url(url: str, query: dict[str, str]) -> str:
    return f"{url}?{urlencode(query)}" if query else url
