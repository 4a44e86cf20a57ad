"""Calls that fail: the list, the call's page and an email say what happened and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from devtools.browsing.chromium import DESKTOP, EXECUTABLE, IS_MISSING, context_of
from devtools.browsing.failures import FAILURES, Failure, make_failures
from devtools.browsing.people import log_in, made_customer
from devtools.tests.development import Development

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
]


@pytest.fixture(scope="module")
def calls(running: Development) -> dict[str, str]:
    """Ids of the calls by the failures' slugs."""

    async def make() -> dict[str, str]:
        async with made_customer(running.url, running.sandbox_url) as (api, sandbox, _):
            return await make_failures(api, sandbox)

    return asyncio.run(make())


@pytest.fixture(scope="module")
def customer(
    running: Development, calls: dict[str, str], chromium: Browser
) -> Iterator[BrowserContext]:
    context = context_of(chromium, DESKTOP)
    log_in(context, running.url, "customer")
    yield context
    context.close()


@pytest.mark.parametrize("failure", FAILURES, ids=[each.slug for each in FAILURES])
def test_pages_name_cause_and_cure(
    failure: Failure, calls: dict[str, str], customer: BrowserContext, running: Development
) -> None:
    page = customer.new_page()
    path = f"/dashboard/calls/{calls[failure.slug]}"
    try:
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
    finally:
        page.close()
