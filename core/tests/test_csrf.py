"""What is said of a form that the CSRF protection rejects, by its cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db

FORM = "/login"
OURS = {"origin": "http://testserver"}


@pytest.fixture
def web() -> Client:
    """A browser that has opened the form, and so has the cookie."""
    client = Client(enforce_csrf_checks=True, headers={"accept": "text/html"})
    client.get(FORM)
    return client


def said(response: Any) -> str:
    assert response.status_code == 403
    assert response["Content-Type"] == "text/html; charset=utf-8"
    return str(response.content.decode())


def test_a_page_from_before_a_sign_in_is_out_of_date(web: Client) -> None:
    text = said(web.post(FORM, {"csrfmiddlewaretoken": "x" * 64}, headers=OURS))
    assert "This page is out of date" in text
    assert 'content="lost"' in text  # for static/drafts.js


def test_the_page_to_open_again_is_the_one_with_the_form(web: Client) -> None:
    headers = OURS | {"referer": "http://testserver/login?next=/dashboard/calls"}
    text = said(web.post("/logout", headers=headers))
    assert 'href="/login?next=/dashboard/calls">Open the page again' in text


@pytest.mark.parametrize(
    "referer", ["http://evil.example/login", "//evil.example/", "http://testserver//evil.example/"]
)
def test_it_is_never_of_another_site(web: Client, referer: str) -> None:
    text = said(web.post(FORM, headers=OURS | {"referer": referer}))
    assert 'href="/login">Open the page again' in text
    assert "evil" not in text


def test_a_browser_without_cookies(web: Client) -> None:
    web.cookies.clear()
    assert "Allow cookies for this site" in said(web.post(FORM, headers=OURS))


def test_a_wrong_origin_is_logged_for_operators(web: Client, logged: Callable[[], str]) -> None:
    headers = {"origin": "https://calls.example", "referer": "https://calls.example/login?a=b"}
    text = said(web.post(FORM, headers=headers))
    assert "come from another site" in text
    assert "calls.example" not in text
    assert "csrf_wrong_origin" in logged()
    assert "set PUBLIC_URL to it" in logged()
    assert "https://calls.example" in logged()


def test_over_https_a_request_without_origin_and_referer(web: Client) -> None:
    text = said(web.post(FORM, secure=True))
    assert "come from another site" in text


@pytest.mark.parametrize(
    ("headers", "cookie", "code"),
    [
        (OURS, True, "csrf_outdated"),
        (OURS, False, "csrf_cookie_missing"),
        ({"origin": "https://calls.example"}, True, "csrf_wrong_origin"),
    ],
)
def test_a_client_that_asks_for_json_gets_a_code(
    web: Client, headers: dict[str, str], cookie: bool, code: str
) -> None:
    if not cookie:
        web.cookies.clear()
    response = web.post(FORM, headers=headers | {"accept": "application/json"})
    assert response.status_code == 403
    body = response.json()
    assert body["code"] == code
    assert body["requestId"] == response["X-Request-Id"]


def test_others_get_text(web: Client) -> None:
    response = web.post(FORM, headers=OURS | {"accept": "*/*"})
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert "This page is out of date" in response.content.decode()
