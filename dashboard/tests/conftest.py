"""The cast of the root's conftest, each with a browser that is logged in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from accounts.models import Account
from devtools.browsing.people import OPERATOR, OPERATOR_PASSWORD
from devtools.tests.development import Development

# The tests' own hasher is one that no server takes.
_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]


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


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Move the clock of sessions on: ``later(minutes=16)``."""

    def move(**by: float) -> None:
        now, delta = timezone.now, timedelta(**by)
        monkeypatch.setattr(timezone, "now", lambda: now() + delta)

    return move


@pytest.fixture(scope="module")
def operator_of_running(running: Development, django_db_blocker: Any) -> None:
    """An operator who can log in to what is ``running``. Chromium starts afterwards."""
    with django_db_blocker.unblock(), override_settings(PASSWORD_HASHERS=_HASHERS):
        Account.objects.create_superuser(OPERATOR, OPERATOR_PASSWORD)
