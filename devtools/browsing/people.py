"""The accounts that look at the pages. They sign in with the form, like anyone else."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from playwright.sync_api import Browser, BrowserContext, Page

from devtools.browsing.authenticator import code
from devtools.browsing.chromium import context_of
from devtools.browsing.failures import make_failures
from devtools.browsing.places import Who
from devtools.processes import Processes
from sandbox.demo.calls import CALLER, TwoCalls
from sandbox.demo.console import Console
from sandbox.demo.customer import EMAIL, PASSWORD, set_up
from sandbox.demo.wire import Wire

NEWCOMER, OPERATOR = "newcomer@example.com", "operator@example.com"
OPERATOR_PASSWORD = "runs-the-switchboard"  # noqa: S105 (of an account in an isolated run)

CREDENTIALS: dict[Who, tuple[str, str]] = {
    "newcomer": (NEWCOMER, PASSWORD),
    "customer": (EMAIL, PASSWORD),
    "halfway": (OPERATOR, OPERATOR_PASSWORD),
    "operator": (OPERATOR, OPERATOR_PASSWORD),
}
# Pages warn of it, before and after its end.
_RETIRED_MODEL = "gpt-realtime"
_cookies: dict[tuple[str, Who], Any] = {}


def make_people(url: str, sandbox_url: str, *, with_failures: bool = False) -> dict[str, str]:
    """Register a new customer, and one who has paid and has two calls, with a model that retires.

    Return the ids of the customer's account, number and calls, for the paths of places.
    """
    return asyncio.run(_make_people(url, sandbox_url, with_failures=with_failures))


async def make_operator(processes: Processes) -> None:
    os.environ["DJANGO_SUPERUSER_PASSWORD"] = OPERATOR_PASSWORD
    manage = (sys.executable, "manage.py", "createsuperuser")
    await processes.run("operator", *manage, "--no-input", f"--email={OPERATOR}")


@asynccontextmanager
async def made_customer(url: str, sandbox_url: str) -> AsyncIterator[tuple[Wire, Wire, str]]:
    """Register a customer who has paid; yield their API, the sandbox's, and their number."""
    jar = aiohttp.CookieJar(unsafe=True)  # keeps the cookies of an IP address too
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        api, sandbox = Wire(session, url), Wire(session, sandbox_url)
        _, number = await set_up(api, sandbox, Console(io.StringIO()))
        yield api, sandbox, number


async def _make_people(url: str, sandbox_url: str, *, with_failures: bool) -> dict[str, str]:
    async with made_customer(url, sandbox_url) as (api, sandbox, number):
        newcomer = {"email": NEWCOMER, "password": PASSWORD, "companyName": "New Company"}
        await api.ask("POST", "/api/auth/register", newcomer)
        _, numbers = await api.ask("GET", "/api/phone-numbers")
        number_id = numbers["phoneNumbers"][0]["id"]
        await _behave(api, sandbox, number_id, f'set={{"model":"{_RETIRED_MODEL}"}}')
        async with TwoCalls(api, sandbox, number) as calls:
            for call in calls:
                async for _ in call.happenings():
                    pass
            inbound, _ = calls
        _, account = await api.ask("GET", "/api/account")
        _, call = await api.ask("GET", f"/api/calls/{inbound.sid}")
        return {
            "account": account["account"]["id"],
            "number": number_id,
            "call": call["call"]["id"],
            "failed_call": await _ring(api, sandbox, number_id, "error=500"),
            "rejected_call": await _ring(api, sandbox, number_id, "reject=busy"),
            **(await make_failures(api, sandbox) if with_failures else {}),
        }


async def _ring(api: Wire, sandbox: Wire, number_id: str, query: str) -> str:
    """Call the number while its backend behaves as the query says; return the call's id."""
    number = await _behave(api, sandbox, number_id, query)
    body = {"to": number, "from": CALLER, "script": []}
    events = [event async for event in sandbox.lines("POST", "/phone/calls", body)]
    await _behave(api, sandbox, number_id, "")
    _, call = await api.ask("GET", f"/api/calls/{events[0]['call_sid']}")
    return str(call["call"]["id"])


async def _behave(api: Wire, sandbox: Wire, number_id: str, query: str) -> str:
    """Let the backend of a number behave as the query says from now on; return the number."""
    url = f"{sandbox.base}/backend/calls/start"
    fields = {"onCallStartUrl": f"{url}?{query}" if query else url}
    _, answer = await api.ask("PATCH", f"/api/phone-numbers/{number_id}", fields)
    return str(answer["phoneNumber"]["phoneNumber"])


def log_in(context: BrowserContext, url: str, who: Who) -> None:
    """Sign in, unless it is a visitor; only once, because a code works only once."""
    if who == "visitor":
        return
    if (url, who) not in _cookies:
        page = context.new_page()
        if who == "operator":
            log_operator_in(page, url)
        else:
            page.goto(f"{url}/login")
            _give_password(page, who)
            page.wait_for_url("**/dashboard")
        page.close()
        _cookies[url, who] = context.cookies()
    context.add_cookies(_cookies[url, who])


def log_operator_in(page: Page, url: str) -> None:
    """Open the admin for the first time, which requires setting up a second factor."""
    page.goto(f"{url}/admin/")
    _give_password(page, "operator")
    page.get_by_role("link", name="Add an app").click()
    secret = page.locator("#totp-secret").inner_text().replace(" ", "")
    page.get_by_label("Code from the app").fill(code(secret))
    page.get_by_role("button", name="Add app").click()
    page.get_by_role("link", name="I saved them").click()
    page.wait_for_url("**/admin/")


def _give_password(page: Page, who: Who) -> None:
    email, password = CREDENTIALS[who]
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def contexts(
    browser: Browser, url: str, size: tuple[int, int], *, dark: bool = False
) -> dict[Who, BrowserContext]:
    """Return a signed-in browser context for each kind of visitor.

    A page stays open in each, so that other pages share its process: starting one takes longer
    than everything that a page does.
    """
    found: dict[Who, BrowserContext] = {}
    for who in ("visitor", *CREDENTIALS):
        found[who] = context_of(browser, size, dark=dark)
        found[who].new_page()
        log_in(found[who], url, who)
    return found
