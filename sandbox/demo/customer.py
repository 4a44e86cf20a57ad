"""The customer's setup, over the API: an account, a key, a number, a secret."""

from __future__ import annotations

from typing import Any

from sandbox.demo.console import Console
from sandbox.demo.payment import pay
from sandbox.demo.wire import DemoFailed, Wire

EMAIL = "rosa@example.com"
PASSWORD = "pasta-for-everybody"  # noqa: S105 (of an account on this machine alone)
COMPANY = "Rosa's Kitchen"
KEY_LABEL = "bin/demo"
# Unassigned numbers: 555-0100 to 555-0199 are reserved for fiction.
_NUMBERS = [f"+1202555{line:04}" for line in range(100, 200)]


async def set_up(api: Wire, sandbox: Wire, console: Console) -> tuple[str, str]:
    """Create the account, pay, and register a number, or reuse those of the last run.

    Return the API key and the number.
    """
    registered = await _register(api, console)
    key = str(registered["apiKey"]) if registered else await _log_in(api, console)
    api.authorize(key)
    await pay(api, console, registered and registered["checkoutUrl"])
    _, secret = await api.ask("GET", "/api/webhooks/secret")
    await sandbox.ask("POST", "/backend/secret", secret)
    console.step("GET /api/webhooks/secret", "whsec_…, for the backend to check signatures with")
    return key, await _register_number(api, sandbox, console)


async def _register(api: Wire, console: Console) -> Any:
    """Return the response for a new account, or None if the account exists."""
    body = {"email": EMAIL, "password": PASSWORD, "companyName": COMPANY}
    status, answer = await api.ask("POST", "/api/auth/register", body, accept=(409,))
    if status == 409:
        console.step("POST /api/auth/register", f"409: {EMAIL} has an account already")
        return None
    account, key = answer["account"], answer["apiKey"]
    console.step(
        "POST /api/auth/register",
        f"{EMAIL} has an account ({account['status']}) and an API key, {key[:7]}…",
    )
    return answer


async def _log_in(api: Wire, console: Console) -> str:
    """Return a new API key that replaces the last run's."""
    _, answer = await api.ask("POST", "/api/auth/login", {"email": EMAIL, "password": PASSWORD})
    console.step("POST /api/auth/login", "a token, to make an API key with")
    api.authorize(answer["token"])
    _, keys = await api.ask("GET", "/api/api-keys")
    for old in keys["apiKeys"]:
        if old["label"] == KEY_LABEL:
            await api.ask("DELETE", f"/api/api-keys/{old['id']}")
    _, new = await api.ask("POST", "/api/api-keys", {"label": KEY_LABEL})
    console.step("POST /api/api-keys", f"a new API key, {new['keyPrefix']}…")
    return str(new["key"])


async def _register_number(api: Wire, sandbox: Wire, console: Console) -> str:
    """Return the first of the numbers that no other account has."""
    for number in _NUMBERS:
        body = {
            "phoneNumber": number,
            "onCallStartUrl": f"{sandbox.base}/backend/calls/start",
            "onCallEndUrl": f"{sandbox.base}/backend/calls/end",
            "onErrorUrl": f"{sandbox.base}/backend/calls/error",
        }
        status, _ = await api.ask("POST", "/api/phone-numbers", body, accept=(409,))
        if status != 409:
            console.step("POST /api/phone-numbers", f"{number}, with its three callback URLs:")
            console.json(body)
            return number
    raise DemoFailed("Other accounts have taken all the numbers that the demo uses.")
