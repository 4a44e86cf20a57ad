"""Headers for browsers and caches, on every response."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.http import HttpResponseBase
from django.test import AsyncClient, Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from accounts.models import Account
from devtools.browsing.places import PLACES

pytestmark = pytest.mark.django_db

# The same for everybody who is not logged in. The guides are found by their patterns' stand-ins.
PUBLIC = {
    "/",
    "/docs",
    "/docs/api",
    "/docs/getting-started",
    "/docs/getting-started.md",
    "/llms.txt",
    "/SKILL.md",
    "/api/schema",
    "/docs/search-1.json",
}
# The same for everybody, signed in or not. So are the guides as Markdown.
FOR_ALL = {"/llms.txt", "/SKILL.md", "/api/schema", "/docs/search-1.json"}
# What a path's parameters are replaced by: one thing that exists, as far as that is known.
STAND_INS = {"slug": "getting-started"}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, route)
        elif isinstance(entry, URLPattern):
            yield route


def as_path(route: str) -> str:
    """Return a path that the route matches: ``voice/answer/<str:token>``, ``^docs/?$``."""
    route = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: STAND_INS.get(found[1], "1"), route)
    route = re.sub(r"\(\?P<\w+>[^)]*\)", "1", route)
    return "/" + re.sub(r"/\?$", "", route.replace("^", "").rstrip("$")).replace("\\Z", "")


ROUTES = sorted({as_path(route) for route in patterns(get_resolver())})
PATHS = sorted({*ROUTES, *(place.path.split("{")[0] for place in PLACES), "/no-such-page"})


def test_there_are_many() -> None:
    assert len(ROUTES) > 100
    assert {"/voice/answer/1", "/api/calls/1", "/admin/login/", "/webhooks/stripe/1"} & set(ROUTES)


def assert_private(path: str, response: HttpResponseBase) -> None:
    told = response["Cache-Control"]
    assert "no-store" in told, (path, told)
    assert "public" not in told, (path, told)


def assert_closed(path: str, response: HttpResponseBase) -> None:
    assert response["Cross-Origin-Resource-Policy"] == "same-origin", path
    policy = response["Permissions-Policy"]
    assert {"camera=()", "geolocation=()", "usb=()"} <= set(policy.split(", ")), path
    assert ("microphone=(self)" in policy) == is_test_call(path, response), path


def is_test_call(path: str, response: HttpResponseBase) -> bool:
    is_page = str(response.get("Content-Type", "")).startswith("text/html")
    return path.startswith("/dashboard/test-call") and response.status_code == 200 and is_page


def test_visitors() -> None:
    browser = Client(raise_request_exception=False)
    found = set()
    for path in PATHS:
        response = browser.get(path)
        assert_closed(path, response)
        if "public" in response["Cache-Control"]:
            found.add(path)
        else:
            assert_private(path, response)
    guides = {place.path for place in PLACES if place.path.startswith("/docs/")}
    assert found == PUBLIC | guides


@pytest.mark.parametrize("who", ["alice", "carol", "operator"])
def test_who_is_logged_in(who: str, request: pytest.FixtureRequest) -> None:
    account: Account = request.getfixturevalue(who)
    browser = Client(raise_request_exception=False)
    for path in PATHS:
        session = browser.cookies.get("sessionid")
        if session is None or not session.value:  # the page before may have ended it
            browser.force_login(account)
        response = browser.get(path)
        assert_closed(path, response)
        if path not in FOR_ALL and not path.endswith(".md"):
            assert_private(path, response)


def test_who_has_a_key(alice_api: APIClient) -> None:
    alice_api.raise_request_exception = False
    for path in PATHS:
        if path.startswith("/api/") and path != "/api/schema":
            for response in (alice_api.get(path), alice_api.post(path), alice_api.delete(path)):
                assert_private(path, response)
                assert_closed(path, response)


async def test_twilio() -> None:
    for path in ROUTES:
        if path.startswith("/voice"):
            response = await AsyncClient().post(path)
            assert_private(path, response)
            assert_closed(path, response)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/nowhere", "/api/nowhere"])
def test_whatever_is_answered_before_a_view(path: str) -> None:
    response = Client().get(path)
    assert_private(path, response)
    assert_closed(path, response)


def test_static_files_are_kept() -> None:
    response = Client().get("/static/mark.svg")
    assert b"<svg" in b"".join(response)
    assert "public" in response["Cache-Control"]
    assert_closed("/static/mark.svg", response)
    assert "Access-Control-Allow-Origin" not in response
