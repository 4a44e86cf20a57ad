"""An operator's work at three in the morning, in a real browser.

A customer writes that a call failed, and gives its SID. Its backend was down when the phone rang,
and is back by now. Everything runs as processes of its own.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from accounts.models import Account
from core.tests.long import only_in_all
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, context_of
from devtools.browsing.people import log_operator_in
from devtools.tests.development import Development

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("a whole product and a browser"),
]

NUMBER = "+12025550187"
CUSTOMER = "frank@example.org"
REASON = "Its backend keeps failing; asked by mail."
_WITHIN_S = 20


class Backend:
    """A customer's backend, which fails as long as it ``is_down``."""

    def __init__(self) -> None:
        self.is_down = True
        self.told: queue.Queue[str] = queue.Queue()  # the paths of what it took
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status = HTTPStatus.SERVICE_UNAVAILABLE if backend.is_down else HTTPStatus.OK
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if not backend.is_down:
                    backend.told.put(self.path)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def call_sid(running: Development, backend: Backend, django_db_blocker: Any) -> str:
    """The SID of a call that the customer's backend was not there for."""
    customer = {"email": CUSTOMER, "password": "a long walk in the rain"}
    key = _ask(f"{running.url}/api/auth/register", customer).json()["apiKey"]
    with django_db_blocker.unblock():
        Account.objects.filter(email=CUSTOMER).update(status="ACTIVE")
    number = {
        "phoneNumber": NUMBER,
        "onCallStartUrl": f"{backend.url}/start",
        "onCallEndUrl": f"{backend.url}/end",
        "onErrorUrl": f"{backend.url}/error",
    }
    _ask(f"{running.url}/api/phone-numbers", number, key)
    ringing = {"to": NUMBER, "script": [{"until_connected": True}]}
    events = _ask(f"{running.sandbox_url}/phone/calls", ringing).text.splitlines()
    return str(json.loads(events[0])["call_sid"])


def _ask(url: str, body: Any, key: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    response = requests.post(url, json=body, headers=headers, timeout=_WITHIN_S)
    response.raise_for_status()
    return response


@pytest.fixture
def page(
    running: Development, operator_of_running: None, call_sid: str, chromium: Browser
) -> Iterator[Page]:
    context = context_of(chromium)
    context.set_default_timeout(_WITHIN_S * 1000)
    page = context.new_page()
    log_operator_in(page, running.url)
    yield page
    context.close()


def test_from_a_calls_sid_to_the_suspension(page: Page, call_sid: str, backend: Backend) -> None:
    began = time.monotonic()
    _find_the_call(page, call_sid)
    _see_why_it_failed(page)
    _send_its_callback(page, backend, call_sid)
    _suspend_the_account(page)
    print(f"\nThe operator's walk: {time.monotonic() - began:.1f} s")  # noqa: T201 (it is to be read)


def _find_the_call(page: Page, call_sid: str) -> None:
    page.get_by_role("link", name="Calls", exact=True).first.click()
    page.locator("#searchbar").fill(call_sid)
    page.keyboard.press("Enter")
    row = page.locator("#result_list tbody tr")
    expect(row).to_have_count(1)
    row.get_by_role("link").first.click()


def _see_why_it_failed(page: Page) -> None:
    main = page.get_by_role("main")
    expect(main).to_contain_text("Rejected")
    expect(main).to_contain_text("onCallStart responded with status 503.")


def _send_its_callback(page: Page, backend: Backend, call_sid: str) -> None:
    page.get_by_role("link", name="Callback deliveries").click()
    page.locator("#searchbar").fill(call_sid)
    page.keyboard.press("Enter")
    row = page.locator("#result_list tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("503")
    row.get_by_role("checkbox").check()
    _run(page, "Send the selected callbacks now")
    backend.is_down = False  # not earlier: the schedule's own attempt would deliver it
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Sending now")).to_be_visible()
    assert backend.told.get(timeout=_WITHIN_S) == "/error"


def _suspend_the_account(page: Page) -> None:
    page.get_by_role("link", name="Accounts", exact=True).last.click()
    page.locator("#searchbar").fill(CUSTOMER)
    page.keyboard.press("Enter")
    page.get_by_role("row").filter(has_text=CUSTOMER).get_by_role("checkbox").check()
    _run(page, "Suspend the selected accounts")
    page.get_by_label("Reason").fill(REASON)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text(f"Suspended: {REASON}")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=CUSTOMER)).to_contain_text("SUSPENDED")


def _run(page: Page, action: str) -> None:
    page.get_by_role("combobox", name="Action").select_option(label=action)
    page.get_by_role("button", name="Go").click()
