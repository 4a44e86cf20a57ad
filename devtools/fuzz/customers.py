"""The two accounts that a run uses. Both have paid."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.demo.console import Console
from sandbox.demo.payment import pay
from sandbox.demo.wire import Wire

PASSWORD = "fuzzed-from-top-to-bottom"  # noqa: S105 (of accounts in the run's own database)

# The one who sends requests, and the one who must not see the results.
CUSTOMER, STRANGER = "customer", "stranger"


async def make_customers(url: str) -> dict[str, str]:
    """Register both, pay and sign in; return their tokens by name.

    Tokens, because no request revokes them; the run revokes API keys.
    """
    return {name: await _make(url, f"{name}@example.com") for name in (CUSTOMER, STRANGER)}


def write_credentials(path: Path, tokens: dict[str, str]) -> None:
    """Write the credentials in the format that Schemathesis reads (Web Fuzzing Commons)."""
    entries: list[dict[str, Any]] = [
        {
            "name": name,
            "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}],
        }
        for name, token in tokens.items()
    ]
    path.write_text(json.dumps({"auth": entries}), encoding="utf-8")


async def _make(url: str, email: str) -> str:
    browser = aiohttp.CookieJar(unsafe=True)  # also keeps cookies of IP addresses
    async with aiohttp.ClientSession(cookie_jar=browser) as session:
        api = Wire(session, url)
        credentials = {"email": email, "password": PASSWORD}
        _, registered = await api.ask("POST", "/api/auth/register", credentials)
        api.authorize(registered["apiKey"])
        await pay(api, Console(io.StringIO()), registered["checkoutUrl"])
        _, logged_in = await api.ask("POST", "/api/auth/login", credentials)
        return str(logged_in["token"])
