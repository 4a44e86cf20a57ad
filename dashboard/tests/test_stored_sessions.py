"""Sessions: what the cookie holds is in no table."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.models import Account
from accounts.sessions import SessionStore

pytestmark = pytest.mark.django_db


def key_of(web: Client) -> str:
    return str(web.cookies[settings.SESSION_COOKIE_NAME].value)


def test_it_works(alice: Account, alice_web: Client) -> None:
    assert alice_web.get("/dashboard").status_code == 200
    alice_web.post("/logout")
    assert alice_web.get("/dashboard").status_code == 302
    assert not Session.objects.exists()


def test_the_key_is_not_stored(alice_web: Client) -> None:
    (stored,) = Session.objects.all()
    assert key_of(alice_web) not in (stored.session_key, stored.session_data)


def test_what_is_stored_is_no_key(client: Client, alice_web: Client) -> None:
    (stored,) = Session.objects.all()
    client.cookies[settings.SESSION_COOKIE_NAME] = stored.session_key
    assert client.get("/dashboard").status_code == 302


def test_a_key_that_changes_takes_the_session_along(alice_web: Client) -> None:
    before = key_of(alice_web)
    session = alice_web.session
    session.cycle_key()
    session.save()
    assert session.session_key != before
    assert SessionStore(session.session_key)["_auth_user_id"]
    assert SessionStore(before).load() == {}
    assert not SessionStore().exists(before)


def test_async_views_have_the_same() -> None:
    @async_to_sync
    async def use() -> tuple[dict[str, str], bool, dict[str, str]]:
        store = SessionStore()
        await store.aset("name", "value")
        await store.asave()
        key = str(store.session_key)
        loaded = await SessionStore(key).aload()
        exists = await store.aexists(key)
        await store.adelete()
        return loaded, exists, await SessionStore(key).aload()

    assert use() == ({"name": "value"}, True, {})
