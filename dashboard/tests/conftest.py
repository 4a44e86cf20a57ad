"""The cast of the root's conftest, each with a browser that is logged in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client
from playwright.sync_api import Browser

from accounts.models import Account
from browsing.chromium import launched


@pytest.fixture
def alice_web(alice: Account) -> Client:
    return logged_in(alice)


@pytest.fixture
def bob_web(bob: Account) -> Client:
    return logged_in(bob)


@pytest.fixture
def carol_web(carol: Account) -> Client:
    return logged_in(carol)


@pytest.fixture
def dave_web(dave: Account) -> Client:
    return logged_in(dave)


def logged_in(account: Account) -> Client:
    client = Client()
    client.force_login(account)
    return client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium. People who look are made before it starts."""
    # Playwright keeps an event loop in this thread, in which Django refuses the database, and has
    # other connections.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with launched() as browser:
        yield browser
        connection.close()
        connection.close_pool()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
