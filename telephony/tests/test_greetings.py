"""The cache of greetings: whose they are, what finds them, and for how long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from operations.closing import account_delete
from telephony import greetings
from telephony.engine.spoken import LONGEST_BYTES, SpokenGreeting
from telephony.greetings import KEPT_FOR, forget_expired, keep, recall
from telephony.models import CachedGreeting
from telephony.tests.engine.conversation import PLAN

GREETED = replace(PLAN, greeting="Good evening!", greeting_cache=True)
SPOKEN = SpokenGreeting(bytes(range(256)), "Good evening — ¡buenas!")
LONGEST = SpokenGreeting(b"\0" * LONGEST_BYTES, SPOKEN.text)
NOW = timezone.now()


def with_text(text):
    return replace(GREETED, greeting=text)


@pytest.mark.parametrize("spoken", [SPOKEN, LONGEST])
def test_it_comes_back_as_it_was(alice, spoken):
    keep(alice.id, GREETED, spoken, NOW)
    assert recall(alice.id, GREETED, NOW) == spoken


def test_the_first_of_several_calls_counts_until_it_expires(alice):
    keep(alice.id, GREETED, SPOKEN, NOW)
    keep(alice.id, GREETED, LONGEST, NOW + timedelta(hours=1))
    assert recall(alice.id, GREETED, NOW) == SPOKEN
    keep(alice.id, GREETED, LONGEST, NOW + KEPT_FOR)
    assert recall(alice.id, GREETED, NOW + KEPT_FOR) == LONGEST
    assert CachedGreeting.objects.count() == 1


def test_what_sounds_the_same_finds_it(alice):
    keep(alice.id, GREETED, SPOKEN, NOW)
    other = replace(GREETED, system_prompt="Be long.", openai_api_key="sk-2", metadata={"a": 1})
    assert recall(alice.id, other, NOW) == SPOKEN


@pytest.mark.parametrize(
    "other",
    [
        {"greeting": "Good evening."},
        {"greeting": ""},
        {"greeting_cache": False},
        {"voice": "cedar"},
        {"model": "gpt-realtime-2"},
        {"openai_base_url": "https://eu.api.openai.com/v1"},
    ],
)
def test_what_sounds_different_does_not(alice, other):
    keep(alice.id, GREETED, SPOKEN, NOW)
    assert recall(alice.id, replace(GREETED, **other), NOW) is None


def test_another_account_does_not_get_it(alice, bob):
    keep(alice.id, GREETED, SPOKEN, NOW)
    assert recall(bob.id, GREETED, NOW) is None
    CachedGreeting.objects.update(account=bob)  # nor by a row that is not theirs
    assert recall(bob.id, GREETED, NOW) is None


def test_it_is_kept_for_a_day(alice):
    keep(alice.id, GREETED, SPOKEN, NOW)
    assert recall(alice.id, GREETED, NOW + timedelta(hours=23, minutes=59)) == SPOKEN
    assert recall(alice.id, GREETED, NOW + KEPT_FOR) is None
    assert forget_expired(NOW + timedelta(hours=23, minutes=59)) == 0
    assert forget_expired(NOW + KEPT_FOR) == 1
    assert not CachedGreeting.objects.exists()


def test_the_oldest_makes_room(alice, bob, monkeypatch):
    monkeypatch.setattr(greetings, "MOST", 2)
    keep(bob.id, GREETED, SPOKEN, NOW)
    for hour, text in enumerate(("One", "Two", "Three")):
        keep(alice.id, with_text(text), SPOKEN, NOW + timedelta(hours=hour))
    found = [text for text in ("One", "Two", "Three") if recall(alice.id, with_text(text), NOW)]
    assert found == ["Two", "Three"]
    assert recall(bob.id, GREETED, NOW) == SPOKEN


@pytest.mark.django_db(transaction=True)
def test_two_calls_at_a_time_do_not_exceed_the_limit(alice, monkeypatch):
    monkeypatch.setattr(greetings, "MOST", 2)

    def keep_one(number):
        try:
            keep(alice.id, with_text(f"{number % 4}"), SPOKEN, NOW)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(keep_one, range(12)))
    assert CachedGreeting.objects.count() == 2


def test_nothing_of_it_can_be_read(alice):
    keep(alice.id, GREETED, SPOKEN, NOW)
    [kept] = CachedGreeting.objects.of(alice)
    stored = f"{kept.digest} {bytes(kept.sealed).decode()} {kept}"
    assert "evening" not in stored
    assert SPOKEN.audio not in bytes(kept.sealed)
    assert "evening" not in repr(SPOKEN)


def test_a_new_secret_key_empties_the_cache(alice, settings):
    keep(alice.id, GREETED, SPOKEN, NOW)
    settings.SECRET_KEY = "another key of at least fifty characters, as settings demand"
    assert recall(alice.id, GREETED, NOW) is None


def test_an_entry_that_cannot_be_opened_is_none(alice):
    keep(alice.id, GREETED, SPOKEN, NOW)
    CachedGreeting.objects.update(sealed=b"something else")
    assert recall(alice.id, GREETED, NOW) is None


def test_it_is_deleted_with_the_account_and_not_kept_again(alice, bob):
    for account in (alice, bob):
        keep(account.id, GREETED, SPOKEN, NOW)
    account_delete(account=alice)
    keep(alice.id, GREETED, SPOKEN, NOW)  # by a call that is still ending
    assert [each.account for each in CachedGreeting.objects.all()] == [bob]


@pytest.mark.parametrize(("is_on", "queries"), [(True, 1), (False, 0)])
def test_a_call_without_it_asks_the_database_nothing(alice, is_on, queries):
    with CaptureQueriesContext(connection) as asked:
        recall(alice.id, replace(GREETED, greeting_cache=is_on), NOW)
    assert len(asked) == queries
