"""The cast of the root's conftest, each with a browser that is logged in."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Account


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
