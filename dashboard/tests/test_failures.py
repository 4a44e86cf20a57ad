"""Calls that fail: the list, the call's page and an email say what happened and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from core.tests.long import only_in_all
from devtools.browsing.chromium import DESKTOP, EXECUTABLE, IS_MISSING, context_of
from devtools.browsing.failures import FAILURES, Failure, make_failures
from devtools.browsing.people import log_in, made_customer
from devtools.tests.development import Development
from sandbox.demo.wire import Wire

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("a whole product and a browser"),
]


# The calls in which the model said something, each for less than a minute.
BILLED = 2


@dataclass(frozen=True)
class Made:
    """The failed calls by the failures' slugs, and what the account pays for them."""

    calls: dict[str, Any]
    month: Any
    invoice: Any


@pytest.fixture(scope="module")
def made(running: Development) -> Made:
    async def make() -> Made:
        async with made_customer(running.url, running.sandbox_url) as (api, sandbox, _):
            ids = await make_failures(api, sandbox)
            calls = {}
            for slug, id in ids.items():
                _, answer = await api.ask("GET", f"/api/calls/{id}")
                calls[slug] = answer["call"]
            _, month = await api.ask("GET", "/api/usage/current")
            return Made(calls, month, await _invoice_with(api, BILLED))

    return asyncio.run(make())


async def _invoice_with(api: Wire, minutes: int) -> Any:
    """Return the next invoice once Stripe knows of so many minutes, or after a while."""
    for _ in range(300):
        _, answer = await api.ask("GET", "/api/billing/invoices/upcoming")
        if _minutes_in(answer) >= minutes:
            break
        await asyncio.sleep(0.2)
    return answer


def _minutes_in(invoice: Any) -> int:
    return sum(line["quantity"] for line in invoice["lines"] if line["kind"] == "minutes")


@pytest.fixture(scope="module")
def customer(running: Development, made: Made, chromium: Browser) -> Iterator[BrowserContext]:
    context = context_of(chromium, DESKTOP)
    log_in(context, running.url, "customer")
    yield context
    context.close()


@pytest.fixture
def page(customer: BrowserContext) -> Iterator[Page]:
    page = customer.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("failure", FAILURES, ids=[each.slug for each in FAILURES])
def test_pages_name_cause_and_cure(
    failure: Failure, made: Made, page: Page, running: Development
) -> None:
    path = f"/dashboard/calls/{made.calls[failure.slug]['id']}"
    page.goto(f"{running.url}/dashboard/calls")
    row = page.locator("tr", has=page.locator(f'a[href="{path}"]'))
    expect(row).to_contain_text(failure.code)
    row.locator("a").first.click()
    banner = page.locator(".problem-notice").first
    expect(banner).to_contain_text(failure.cause)
    expect(banner).to_contain_text(failure.cure)
    guide = page.locator(f"#notice-{failure.code}")
    anchor = str(guide.get_attribute("href")).partition("#")[2]
    guide.click()
    expect(page.locator(f"#{anchor}")).to_be_visible()


def test_the_owner_gets_an_email_for_each_code(
    made: Made, page: Page, running: Development
) -> None:
    failed = {each["errorCode"] for each in made.calls.values()} - {"callback_given_up"}
    mailbox = f"{running.url}/sandbox/mail/"
    for code in failed:
        mail = page.locator(
            "article", has_text=f"failing{' tool' * (code == 'tool_failed')}: {code}"
        )
        _load_until_there(page, mailbox, mail)
        expect(mail).to_have_count(1)
        expect(mail).to_contain_text(f"{running.url}/docs/reasons-and-errors#{code}")
    given_up = page.locator("article", has_text="We gave up on a callback")
    _load_until_there(page, mailbox, given_up)
    expect(given_up).to_have_count(1)


def _load_until_there(page: Page, url: str, wanted: Locator) -> None:
    """Load a page again until a worker has done its part, or for a while."""
    for _ in range(100):
        page.goto(url)
        if wanted.count():
            return


def test_calls_whose_model_never_spoke_cost_nothing(made: Made) -> None:
    """The calls, the usage, Stripe's meter and the invoice agree."""
    charged = {
        slug
        for slug, call in made.calls.items()
        if call["costBreakdown"] and call["costBreakdown"]["platformCost"]
    }
    assert charged == {"failure-tool-failing", "failure-callback-given-up"}
    assert made.month["currentMonth"]["minutes"] == BILLED
    assert _minutes_in(made.invoice) == BILLED
    assert made.invoice["amount"] == 5 + BILLED * 0.05
