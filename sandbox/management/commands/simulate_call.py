"""``manage.py simulate_call``: one call over the real wire, described while it runs."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import requests
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN
from sandbox.phone.callees import Answers
from sandbox.phone.identity import is_phone_number
from sandbox.phone.narration import narrate

_FIRST_WORDS = "Hello, who is there?"
# How long the person waits for the agent to speak first.
_GREETING_S = 4.0
_TIMEOUT_S = 30
# A call may be silent for as long as both sides have patience.
_SILENCE_ALLOWED = (5, None)

_HELP = """\
Make one call through the running sandbox, and tell it step by step. Somebody rings the registered
number, or, with --outbound, the product is asked to call somebody. The exit status is 0 only if
the two talked and nothing went wrong.
"""


class Command(BaseCommand):
    help = _HELP

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--number", type=_number, required=True, help="the registered number")
        parser.add_argument(
            "--from",
            "--to",
            dest="person",
            type=_number,
            default="+19805551234",
            help="the number of the person at the other end (default %(default)s)",
        )
        parser.add_argument(
            "--say", action="append", metavar="TEXT", help="what the person says, in turn"
        )
        parser.add_argument(
            "--interrupt", action="store_true", help="say the last TEXT while the agent speaks"
        )
        parser.add_argument("--digits", default="", help="keys that are pressed after that")
        parser.add_argument("--hangup-after", type=float, metavar="SECONDS")
        parser.add_argument("--record", type=Path, metavar="FILE", help="write the call as WAV")
        parser.add_argument("--account-sid", default=SANDBOX_ACCOUNT_SID)
        parser.add_argument("--auth-token", default=SANDBOX_AUTH_TOKEN)
        parser.add_argument(
            "--sandbox", default=f"http://127.0.0.1:{settings.SANDBOX_PORT}", metavar="URL"
        )
        outbound = parser.add_argument_group("a call that the product makes")
        outbound.add_argument("--outbound", action="store_true")
        outbound.add_argument("--api-key", help="of the account that the number belongs to")
        outbound.add_argument(
            "--answers", choices=get_args(Answers), default="human", help="who is at the other end"
        )
        outbound.add_argument("--machine-detection", choices=["Enable", "DetectMessageEnd"])
        outbound.add_argument("--timeout", type=int, help="seconds to let it ring")
        outbound.add_argument(
            "--backend", metavar="URL", help="the callbacks' base (default: the sandbox's backend)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        self.options = options
        self.sandbox = str(options["sandbox"]).rstrip("/")
        events = self._outbound() if options["outbound"] else self._inbound()
        last: dict[str, Any] = {}
        sid = ""
        try:
            for event in events:
                last = event
                sid = event.get("call_sid", sid)
                if line := narrate(event):
                    self.stdout.write(line)
                    self.stdout.flush()
        except KeyboardInterrupt:
            self._request("POST", f"{self.sandbox}/phone/calls/{sid}/hangup")
            raise CommandError("You hung up.") from None
        if options["record"] and sid:
            self._record(sid, options["record"])
        if not last.get("went_through"):
            raise CommandError("The call did not go through.")

    def _inbound(self) -> Iterator[dict[str, Any]]:
        options = self.options
        body = {
            "to": options["number"],
            "from": options["person"],
            "script": _caller_script(options),
            "hangUpAfter": options["hangup_after"],
            "accountSid": options["account_sid"],
            "authToken": options["auth_token"],
        }
        return self._events("POST", f"{self.sandbox}/phone/calls", json=body)

    def _outbound(self) -> Iterator[dict[str, Any]]:
        options = self.options
        if not options["api_key"]:
            raise CommandError("--outbound needs --api-key: the account's API key.")
        callee: dict[str, Any] = {"answers": options["answers"]}
        if options["answers"] == "human":
            callee["script"] = _callee_script(options)
        self._request("PUT", f"{self.sandbox}/phone/callees/{options['person']}", json=callee)
        backend = (options["backend"] or f"{self.sandbox}/backend").rstrip("/")
        body = {
            "to": options["person"],
            "from": options["number"],
            "onCallStartUrl": f"{backend}/calls/start",
            "onCallEndUrl": f"{backend}/calls/end",
            "onErrorUrl": f"{backend}/calls/error",
            "twilioAccountSid": options["account_sid"],
            "twilioAuthToken": options["auth_token"],
            "metadata": {"simulated": True},
        }
        body |= {
            name: value
            for name, value in (
                ("machineDetection", options["machine_detection"]),
                ("timeout", options["timeout"]),
            )
            if value
        }
        response = self._request(
            "POST",
            f"{settings.PUBLIC_URL}/api/outbound",
            json=body,
            headers={"Authorization": f"Bearer {options['api_key']}"},
        )
        sid = response.json()["callSid"]
        return self._events("GET", f"{self.sandbox}/phone/calls/{sid}/events")

    def _record(self, sid: str, path: Path) -> None:
        recording = self._request("GET", f"{self.sandbox}/phone/calls/{sid}/recording")
        path.write_bytes(recording.content)
        self.stdout.write(f"Recorded to {path}: the person is on the left, the agent on the right.")

    def _events(self, method: str, url: str, **request: Any) -> Iterator[dict[str, Any]]:
        with self._request(
            method, url, stream=True, timeout=_SILENCE_ALLOWED, **request
        ) as response:
            for line in response.iter_lines():
                yield json.loads(line)

    def _request(
        self, method: str, url: str, *, timeout: Any = _TIMEOUT_S, **request: Any
    ) -> requests.Response:
        try:
            response = requests.request(method, url, timeout=timeout, **request)
        except requests.ConnectionError:
            raise CommandError(
                f"Nothing listens at {url}. Start bin/dev, with the same PORT if you set one."
            ) from None
        if not response.ok:
            raise CommandError(f"{url} answered {response.status_code}: {response.text.strip()}")
        return response


def _caller_script(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the script of a caller, who waits for the greeting unless they interrupt it."""
    interrupts_greeting = options["interrupt"] and len(options["say"] or []) <= 1
    script: list[dict[str, Any]] = [{"until_connected": True}]
    if not interrupts_greeting:
        script.append({"listen": _GREETING_S})
    script += _conversation(options)
    if options["hangup_after"] is None:
        script.append({"hang_up": True})
    return script


def _callee_script(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the script of a callee, who speaks first."""
    script = [{"until_connected": True}, *_conversation(options)]
    if options["hangup_after"] is not None:
        script.append({"wait": options["hangup_after"]})
    return [*script, {"hang_up": True}]


def _conversation(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each text with the response to it, which is last if the text interrupts."""
    *texts, last = options["say"] or [_FIRST_WORDS]
    script: list[dict[str, Any]] = []
    for text in texts:
        script += [{"say": text}, {"listen": True}]
    if options["interrupt"]:
        script = [*script[:-1], {"interrupt": last}, {"listen": True}]
    else:
        script += [{"say": last}, {"listen": True}]
    if options["digits"]:
        script += [{"press": options["digits"]}, {"listen": True}]
    return script


def _number(text: str) -> str:
    if not is_phone_number(text):
        raise ArgumentTypeError(f"{text} is no number in E.164, like +15551234567")
    return text
