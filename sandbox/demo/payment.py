"""Payment on the checkout page, and the amount of the next invoice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from sandbox.demo.console import Console
from sandbox.demo.wire import DemoFailed, Wire

# A worker receives the event, asks Stripe and decides: well under a second. A slow machine may take
# longer.
_WITHIN_S = 20.0
_LOOK_AGAIN_S = 0.05

UPCOMING = "/api/billing/invoices/upcoming"


async def pay(api: Wire, console: Console, checkout_url: str | None) -> None:
    """Pay on the checkout page like a person in a browser, and wait until the account is ACTIVE.

    :param checkout_url: None if the account exists already, and may have paid.
    """
    if checkout_url is None:
        _, answer = await api.ask("GET", "/api/account")
        status = answer["account"]["status"]
        if status == "ACTIVE":
            console.step("GET /api/account", "the account has paid, and is ACTIVE")
            return
        if status == "SUSPENDED":
            raise DemoFailed("The demo's account is SUSPENDED: pay in its billing portal.")
        _, page = await api.ask("POST", "/api/billing/checkout")
        checkout_url = str(page["url"])
    console.step("checkoutUrl", checkout_url)
    next_page = urlsplit(await api.submit_page(checkout_url)).path
    console.step("", f"in a browser: paid with the test card 4242…, sent on to {next_page}")
    began = time.monotonic()
    await _ask_until(api, "/api/account", lambda body: body["account"]["status"] == "ACTIVE")
    seconds = time.monotonic() - began
    console.step("GET /api/account", f"ACTIVE, {seconds:.1f} s later: Stripe has told Switchhook")


async def invoice_with(api: Wire, amount: float) -> Any:
    """Return the next invoice once it reaches the amount, or as it is after a timeout."""
    return await _ask_until(api, UPCOMING, lambda body: bool(body["amount"] > amount - 0.001))


async def _ask_until(api: Wire, path: str, is_there: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + _WITHIN_S
    while True:
        _, body = await api.ask("GET", path)
        if is_there(body) or time.monotonic() > deadline:
            return body
        await asyncio.sleep(_LOOK_AGAIN_S)
