from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from accounts.authentication import token_for
from accounts.models import ApiKey, new_api_key
from accounts.services import api_key_create, api_key_revoke
from devtools.browsing.authenticator import app_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(anonymous_api):
    """Ask for the account with the given ``Authorization`` header."""

    def ask(header: str):
        return anonymous_api.get("/api/account", headers={"authorization": header})

    return ask


def assert_refused(response, code: str) -> None:
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["code"] == code


class TestHeader:
    def test_it_is_required(self, anonymous_api):
        assert_refused(anonymous_api.get("/api/account"), "missing_credentials")

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_the_scheme_counts_without_case(self, ask, alice, scheme):
        assert ask(f"{scheme} {api_key_create(account=alice).plain}").status_code == 200

    def test_spaces_around_do_not_matter(self, ask, alice):
        assert ask(f" Bearer   {api_key_create(account=alice).plain} ").status_code == 200

    @pytest.mark.parametrize(
        "header", ["Bearer", "Bearer ", "Basic YTpi", "rtk_1", "Bearer a b", "x"]
    )
    def test_another_form_is_refused(self, ask, header):
        assert_refused(ask(header), "malformed_credentials")


class TestApiKey:
    def test_it_works(self, ask, alice):
        response = ask(f"Bearer {api_key_create(account=alice).plain}")
        assert response.json()["account"]["id"] == alice.id

    @pytest.mark.parametrize(
        "change",
        [
            lambda key: key[:-1],
            lambda key: key + "0",
            lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
            lambda key: key[:9] + ("0" if key[9] != "0" else "1") + key[10:],
            lambda key: key[:10] + "ü" + key[11:],
            lambda key: "rtk_",
        ],
    )
    def test_a_mistyped_one_is_refused_without_a_query(
        self, ask, alice, change, django_assert_num_queries
    ):
        key = api_key_create(account=alice).plain
        with django_assert_num_queries(0):
            assert_refused(ask(f"Bearer {change(key)}"), "malformed_api_key")

    def test_an_unknown_one_is_refused(self, ask, alice):
        assert_refused(ask(f"Bearer {new_api_key()}"), "invalid_api_key")

    def test_a_revoked_one_is_refused(self, ask, alice):
        new = api_key_create(account=alice)
        api_key_revoke(account=alice, id=new.api_key.id)
        assert_refused(ask(f"Bearer {new.plain}"), "invalid_api_key")

    def test_that_of_a_disabled_account_is_refused(self, alice, alice_api):
        alice.is_active = False
        alice.save()
        assert_refused(alice_api.get("/api/account"), "account_disabled")

    def test_it_costs_one_query(self, alice_api, django_assert_num_queries):
        alice_api.get("/api/api-keys")  # notes the use
        with django_assert_num_queries(2):  # the key with its account, and the list
            alice_api.get("/api/api-keys")


class TestLastUse:
    def test_it_is_noted(self, alice, alice_api):
        before = timezone.now()
        alice_api.get("/api/account")
        assert before <= alice.api_keys.get().last_used_at <= timezone.now()

    def test_it_is_noted_once_a_minute(self, alice, alice_api):
        recently = timezone.now() - timedelta(seconds=50)
        ApiKey.objects.update(last_used_at=recently)
        alice_api.get("/api/account")
        assert alice.api_keys.get().last_used_at == recently

    def test_it_is_noted_again_after_a_minute(self, alice, alice_api):
        earlier = timezone.now() - timedelta(seconds=61)
        ApiKey.objects.update(last_used_at=earlier)
        alice_api.get("/api/account")
        assert alice.api_keys.get().last_used_at > earlier

    @pytest.mark.django_db(transaction=True)
    def test_of_two_at_once_one_writes(self, alice):
        """Both have read the old time; the condition in the UPDATE lets one of them through."""
        id = api_key_create(account=alice).api_key.id
        now = timezone.now()
        moments = [now, now + timedelta(seconds=1)]
        start = Barrier(2, timeout=10)

        def note(moment):
            try:
                key = ApiKey.objects.get(pk=id)
                start.wait()
                return key.note_use(moment)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(note, moments)) == [False, True]
        assert ApiKey.objects.get(pk=id).last_used_at in moments

    def test_a_refused_key_is_not_noted(self, alice, alice_api):
        alice.is_active = False
        alice.save()
        alice_api.get("/api/account")
        assert alice.api_keys.get().last_used_at is None


class TestToken:
    def test_it_works(self, ask, alice):
        assert ask(f"Bearer {token_for(alice)}").json()["account"]["id"] == alice.id

    def test_an_expired_one_is_refused(self, ask, alice):
        token = AccessToken(token_for(alice))
        token.set_exp(lifetime=-timedelta(seconds=1))
        assert_refused(ask(f"Bearer {token}"), "expired_token")

    @pytest.mark.parametrize(
        "token",
        [
            "eyJhbG",
            "a.b.c",
            "....",
            "ü",
            # {"alg": "none"} and an empty signature
            "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoiYyJ9.",
            base64.urlsafe_b64encode(b'{"a":' + b"[" * 5000).decode().rstrip("=") + ".e30.e30",
        ],
    )
    def test_what_is_none_is_refused(self, ask, token):
        assert_refused(ask(f"Bearer {token}"), "invalid_token")

    def test_a_forged_one_is_refused(self, ask, alice):
        head, _, signature = token_for(alice).split(".")
        payload = base64.urlsafe_b64encode(b'{"user_id": "c1", "exp": 9999999999}').decode()
        assert_refused(ask(f"Bearer {head}.{payload.rstrip('=')}.{signature}"), "invalid_token")

    def test_a_token_of_another_type_is_refused(self, ask, alice):
        assert_refused(ask(f"Bearer {RefreshToken.for_user(alice)}"), "invalid_token")

    def test_one_without_our_claims_is_refused(self, ask, alice):
        assert_refused(ask(f"Bearer {AccessToken()}"), "unknown_account")
        assert_refused(ask(f"Bearer {AccessToken.for_user(alice)}"), "password_changed")

    def test_that_of_a_deleted_account_is_refused(self, ask, alice):
        token = token_for(alice)
        alice.delete()
        assert_refused(ask(f"Bearer {token}"), "unknown_account")

    def test_that_of_a_disabled_account_is_refused(self, ask, alice):
        token = token_for(alice)
        alice.is_active = False
        alice.save()
        assert_refused(ask(f"Bearer {token}"), "account_disabled")

    def test_a_new_password_ends_it(self, ask, alice):
        before = token_for(alice)
        alice.set_password("another long walk")
        alice.save()
        assert_refused(ask(f"Bearer {before}"), "password_changed")
        assert ask(f"Bearer {token_for(alice)}").status_code == 200

    def test_a_second_factor_ends_those_that_were_made_without(self, ask, alice):
        before = token_for(alice)
        app_of(alice)
        assert_refused(ask(f"Bearer {before}"), "second_factor_required")
        assert ask(f"Bearer {token_for(alice, second_factor=True)}").status_code == 200

    def test_it_holds_nothing_of_the_password(self, alice):
        alice.password = make_password("a long walk")
        payload = AccessToken(token_for(alice)).payload
        assert set(payload) == {
            *("token_type", "exp", "iat", "jti", "user_id"),
            "password",
            "epoch",
            "second_factor",
        }
        assert alice.password.rpartition("$")[2] not in str(payload)
