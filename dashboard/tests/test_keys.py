"""The page of API keys and the webhook secret."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Account, ApiKey
from accounts.services import MAX_ACTIVE_KEYS, api_key_create, webhook_secret_rotate
from dashboard.tests.pages import assert_well_made
from docs.tests.test_docs import Links, get

pytestmark = pytest.mark.django_db

LIST = "/dashboard/keys"
NEW = "/dashboard/keys/new"
SECRET = "/dashboard/keys/secret"
ROTATE = "/dashboard/keys/secret/rotate"
KEY = re.compile(r"rtk_[0-9A-Za-z]{38}")
WEBHOOK_SECRET = re.compile(r"whsec_[0-9A-Za-z+/]{32}")


class TestList:
    def test_it_works(self, alice: Account, bob: Account, alice_web: Client) -> None:
        key = api_key_create(account=alice, label="Production")
        api_key_create(account=bob, label="Bob's own")
        text = alice_web.get(LIST).content.decode()
        assert "Production" in text
        assert f"{key.api_key.prefix}…" in text
        assert "Bob" not in text
        assert key.plain not in text
        assert alice.webhook_secret.secret not in text
        assert_well_made(text)

    def test_nothing_yet_says_what_to_do(self, alice_web: Client) -> None:
        assert "No API key" in alice_web.get(LIST).content.decode()

    def test_the_number_of_queries_is_fixed(
        self, alice: Account, alice_web: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for _ in range(5):
            api_key_create(account=alice)
        with django_assert_num_queries(4):  # the session, the account, the secret, the keys
            alice_web.get(LIST)

    def test_the_docs_have_the_code(self, alice_web: Client) -> None:
        [link] = [
            link
            for link in Links(alice_web.get(LIST).content.decode()).links
            if link.startswith("/docs/callbacks")
        ]
        path, _, anchor = link.partition("#")
        assert anchor in Links(get(path)).ids


class TestMake:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        response = alice_web.post(NEW, {"label": "Production"}, follow=True)
        assert response.redirect_chain == [(f"{LIST}#new", 302)]
        assert "no-store" in response["Cache-Control"]
        [plain] = KEY.findall(response.content.decode())
        key = ApiKey.objects.for_key(plain)
        assert key is not None
        assert (key.account, key.label) == (alice, "Production")
        assert_well_made(response.content.decode())

    def test_reloading_makes_no_other(self, alice: Account, alice_web: Client) -> None:
        alice_web.post(NEW, {"label": "Production"}, follow=True)
        assert not KEY.search(alice_web.get(LIST).content.decode())
        assert alice.api_keys.count() == 1

    def test_it_is_sealed_on_its_way_to_the_page(self, alice_web: Client) -> None:
        alice_web.post(NEW, {"label": "Production"})
        session = str(dict(alice_web.session.items()))
        cookies = str(alice_web.cookies)
        [plain] = KEY.findall(alice_web.get(LIST).content.decode())
        assert plain not in session + cookies
        assert "Production" not in session

    def test_who_only_looks_whether_the_page_is_there_takes_nothing(
        self, alice_web: Client
    ) -> None:
        alice_web.post(NEW)
        alice_web.head(LIST)
        assert KEY.search(alice_web.get(LIST).content.decode())

    def test_it_does_not_wait_for_long(self, alice_web: Client, later: Callable[..., None]) -> None:
        alice_web.post(NEW)
        later(minutes=5)
        assert not KEY.search(alice_web.get(LIST).content.decode())
        assert "shown_once" not in alice_web.session

    def test_it_is_shown_this_once(self, alice_web: Client) -> None:
        [plain] = KEY.findall(alice_web.post(NEW, {"label": ""}, follow=True).content.decode())
        assert plain not in alice_web.get(LIST).content.decode()
        assert plain not in str(dict(alice_web.session.items()))
        assert plain not in str(alice_web.cookies)

    def test_a_link_makes_none(self, alice_web: Client) -> None:
        assert alice_web.get(NEW)["Location"] == LIST
        assert not ApiKey.objects.exists()

    def test_a_label_has_an_end(self, alice_web: Client) -> None:
        response = alice_web.post(NEW, {"label": "x" * 101})
        assert response.status_code == 400
        assert "label" in response.context["form"].errors

    def test_there_is_a_limit(self, alice: Account, alice_web: Client) -> None:
        keys = [
            ApiKey(account=alice, label="x", prefix="rtk_abc", digest=str(number))
            for number in range(MAX_ACTIVE_KEYS)
        ]
        ApiKey.objects.bulk_create(keys)
        response = alice_web.post(NEW, {"label": "One more"})
        assert response.status_code == 400
        assert "Revoke one first" in response.content.decode()

    def test_it_is_there_before_the_payment(self, carol_web: Client) -> None:
        assert KEY.search(carol_web.post(NEW, {"label": ""}, follow=True).content.decode())


class TestRevoke:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        key = api_key_create(account=alice, label="Old")
        response = alice_web.post(f"{LIST}/{key.api_key.id}/revoke")
        assert response["Location"] == LIST
        assert ApiKey.objects.for_key(key.plain) is None
        assert "Revoked the key" in alice_web.get(LIST).content.decode()
        assert alice_web.post(f"{LIST}/{key.api_key.id}/revoke").status_code == 404

    def test_somebody_elses_is_not_found(self, alice: Account, bob_web: Client) -> None:
        key = api_key_create(account=alice)
        assert bob_web.post(f"{LIST}/{key.api_key.id}/revoke").status_code == 404
        assert ApiKey.objects.for_key(key.plain)

    def test_a_link_does_not(self, alice: Account, alice_web: Client) -> None:
        key = api_key_create(account=alice)
        assert alice_web.get(f"{LIST}/{key.api_key.id}/revoke").status_code == 405


class TestSecret:
    def test_it_is_shown_on_request(self, alice: Account, alice_web: Client) -> None:
        response = alice_web.post(SECRET, follow=True)
        assert response.redirect_chain == [(f"{LIST}#secret", 302)]
        assert "no-store" in response["Cache-Control"]
        text = response.content.decode()
        assert WEBHOOK_SECRET.findall(text) == [alice.webhook_secret.secret]
        assert_well_made(text)
        assert alice_web.get(SECRET)["Location"] == f"{LIST}#secret"
        assert not WEBHOOK_SECRET.search(alice_web.get(LIST).content.decode())

    def test_it_is_rotated(self, alice: Account, alice_web: Client) -> None:
        before = alice.webhook_secret.secret
        response = alice_web.post(ROTATE)
        assert response["Location"] == f"{LIST}#secret"
        alice.webhook_secret.refresh_from_db()
        secrets = alice.webhook_secret.secrets(timezone.now())
        assert secrets[1:] == [before]
        text = alice_web.get(LIST).content.decode()
        assert not WEBHOOK_SECRET.search(text)
        assert "is valid until" in text
        assert secrets[0] in alice_web.post(SECRET, follow=True).content.decode()

    def test_the_old_one_is_forgotten_after_its_time(
        self, alice: Account, alice_web: Client
    ) -> None:
        webhook_secret_rotate(account=alice)
        record = alice.webhook_secret
        record.refresh_from_db()
        assert record.rotated_at
        record.rotated_at -= record.OVERLAP
        record.save()
        assert "is valid until" not in alice_web.get(LIST).content.decode()

    def test_a_link_does_not_rotate(self, alice_web: Client) -> None:
        assert alice_web.get(ROTATE).status_code == 405


@pytest.mark.parametrize("path", [LIST, NEW, SECRET])
def test_strangers_log_in_first(path: str) -> None:
    assert Client().get(path)["Location"] == f"/login?next={path}"
    assert Client().post(path)["Location"] == f"/login?next={path}"
