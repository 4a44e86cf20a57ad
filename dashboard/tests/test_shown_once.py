"""What a form created, on its way to the page that shows it."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import SessionBase

from dashboard.shown_once import put, take


def test_each_page_takes_what_is_its_own() -> None:
    session = SessionBase()
    put(session, "API key", {"plain": "rtk_1"})
    assert take(session, "webhook secret") is None
    assert take(session, "API key") == {"plain": "rtk_1"}
    assert take(session, "API key") is None


def test_the_newest_replaces_the_others() -> None:
    session = SessionBase()
    put(session, "API key", "first")
    put(session, "webhook secret", "second")
    assert take(session, "API key") is None
    assert take(session, "webhook secret") == "second"


def test_it_is_sealed_for_one_page() -> None:
    session = SessionBase()
    put(session, "API key", "rtk_1")
    session["shown_once"]["what"] = "webhook secret"
    assert take(session, "webhook secret") is None


def test_nothing_is_left_of_it_under_another_secret_key(settings: Any) -> None:
    session = SessionBase()
    put(session, "API key", "rtk_1")
    settings.SECRET_KEY = "x" * 50
    assert take(session, "API key") is None
    assert "shown_once" not in session
