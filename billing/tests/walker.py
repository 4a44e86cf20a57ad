"""A customer of a server that really runs: registers and calls over HTTP, and only so."""

from __future__ import annotations

import json
import time
from typing import Any

import requests

from devtools.tests.development import Development
from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN

CALLEE = "+15559876543"

# What is waited for comes in well under a second. A busy machine may take longer.
_WITHIN_S = 20.0
_LOOK_AGAIN_S = 0.02

# Whoever is on the phone hangs up as soon as the engine has taken the call.
_SHORT_CALL = [{"until_connected": True}, {"hang_up": True}]


class Walker:
    """Somebody who has registered.

    :param number: the phone number that is registered later on, in E.164.
    """

    def __init__(self, running: Development, *, email: str, number: str) -> None:
        self.email = email
        self.number = number
        self._running = running
        self._session = requests.Session()
        _, body = self.ask(
            "POST", "/api/auth/register", {"email": email, "password": "a long walk in the rain"}
        )
        self.checkout_url = str(body["checkoutUrl"])
        self._session.headers["Authorization"] = f"Bearer {body['apiKey']}"

    @property
    def status(self) -> str:
        _, body = self.ask("GET", "/api/account")
        return str(body["account"]["status"])

    def becomes(self, status: str) -> float:
        """Ask until the account has the status; return how many seconds that took."""
        began = time.monotonic()
        while (found := self.status) != status:
            assert time.monotonic() < began + _WITHIN_S, f"It is still {found}, not {status}."
            time.sleep(_LOOK_AGAIN_S)
        return time.monotonic() - began

    def open_portal(self) -> str:
        """Return the address of the billing portal."""
        status, body = self.ask("POST", "/api/billing/portal")
        assert status == 200, body
        return str(body["url"])

    def register_number(self) -> None:
        """Register the number, with the sandbox's backend, which learns our secret."""
        _, secret = self.ask("GET", "/api/webhooks/secret")
        self._sandbox("POST", "/backend/secret", secret)
        number = {"phoneNumber": self.number, **self._urls}
        status, body = self.ask("POST", "/api/phone-numbers", number)
        assert status == 201, body

    def place_call(self) -> str:
        """Have somebody called; return how that ended, or the refusal's status and code.

        A call that is placed is ``connected`` if the engine has taken its audio.
        """
        callee = {"ringsFor": 0, "script": _SHORT_CALL}
        self._sandbox("PUT", f"/phone/callees/{CALLEE}", callee)
        status, body = self.ask(
            "POST",
            "/api/outbound",
            {
                "from": self.number,
                "to": CALLEE,
                "twilioAccountSid": SANDBOX_ACCOUNT_SID,
                "twilioAuthToken": SANDBOX_AUTH_TOKEN,
                **self._urls,
            },
        )
        if status != 201:
            return f"{status} {body['code']}"
        return self._how_it_went(self._sandbox("GET", f"/phone/calls/{body['callSid']}/events"))

    def take_call(self) -> str:
        """Have somebody ring the number; return how that ended.

        ``rejected`` is a call that the backend was not even asked about.
        """
        ringing = {"to": self.number, "script": _SHORT_CALL}
        return self._how_it_went(self._sandbox("POST", "/phone/calls", ringing))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status and the decoded body."""
        url = self._running.url + path
        response = self._session.request(method, url, json=body, timeout=_WITHIN_S)
        return response.status_code, response.json()

    def _sandbox(self, method: str, path: str, body: Any = None) -> requests.Response:
        url = self._running.sandbox_url + path
        response = requests.request(method, url, json=body, timeout=_WITHIN_S)
        response.raise_for_status()
        return response

    @property
    def _urls(self) -> dict[str, str]:
        backend = f"{self._running.sandbox_url}/backend/calls"
        return {"onCallStartUrl": f"{backend}/start", "onCallEndUrl": f"{backend}/end"}

    def _how_it_went(self, events: requests.Response) -> str:
        """Read a call's events, a JSON object a line, until it has ended."""
        happened = [json.loads(line) for line in events.text.splitlines()]
        if any(event["kind"] == "stream-connected" for event in happened):
            return "connected"
        told = self._sandbox("GET", "/backend/callbacks").json()["callbacks"]
        assert happened[0]["call_sid"] not in {entry["body"]["callSid"] for entry in told}
        assert any(event.get("verb") == "Reject" for event in happened), happened
        return "rejected"
