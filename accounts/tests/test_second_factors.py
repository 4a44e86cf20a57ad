"""Adding, using and removing second factors. Passkeys: ``dashboard/tests/test_passkeys.py``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts.links import password_reset_link
from accounts.models import Account
from accounts.passwords import password_reset
from accounts.second_factors import (
    code_require,
    has_second_factor,
    recovery_codes_left,
    recovery_codes_renew,
    second_factor_remove,
    second_factors,
    totp_add,
    totp_secret_new,
)
from accounts.services import account_close
from core.errors import ApiError
from core.tests.waiting import until_it_waits
from devtools.browsing.authenticator import code

pytestmark = pytest.mark.django_db


@pytest.fixture
def secret() -> str:
    return totp_secret_new()


@pytest.fixture
def codes(alice: Account, secret: str) -> list[str]:
    """Alice's recovery codes: she has an app."""
    return totp_add(account=alice, secret=secret, code=code(secret))


def refusal_of(account: Account, tried: str) -> str:
    with pytest.raises(ApiError) as refused:
        code_require(account, tried)
    assert refused.value.status_code == 401
    return str(refused.value.code)


class TestApp:
    def test_it_works(self, alice: Account, secret: str, codes: list[str]) -> None:
        assert has_second_factor(alice)
        assert len(set(codes)) == 10
        code_require(alice, code(secret, later=1))
        [factor] = second_factors(alice)
        assert factor.last_used_at is not None

    def test_a_code_counts_once(self, alice: Account, secret: str, codes: list[str]) -> None:
        assert refusal_of(alice, code(secret)) == "second_factor_invalid"  # it was added with it
        code_require(alice, code(secret, later=1))
        assert refusal_of(alice, code(secret, later=1)) == "second_factor_invalid"
        assert refusal_of(alice, code(secret)) == "second_factor_invalid"  # an older one

    @pytest.mark.parametrize("later", [-3, 3])
    def test_a_code_of_another_time(
        self, alice: Account, secret: str, codes: list[str], later: int
    ) -> None:
        assert refusal_of(alice, code(secret, later=later)) == "second_factor_invalid"

    @pytest.mark.parametrize("tried", ["", "x", "12345", "\uff11\uff12", "\0", "9" * 32])
    def test_what_is_no_code(self, alice: Account, codes: list[str], tried: str) -> None:
        assert refusal_of(alice, tried) == "second_factor_invalid"

    def test_an_app_shows_its_code_first(self, alice: Account, secret: str) -> None:
        with pytest.raises(ApiError) as refused:
            totp_add(account=alice, secret=secret, code=code(secret, later=9))
        assert (refused.value.status_code, refused.value.code) == (400, "second_factor_invalid")
        assert not has_second_factor(alice)

    def test_one_app(self, alice: Account, codes: list[str]) -> None:
        another = totp_secret_new()
        with pytest.raises(ApiError) as refused:
            totp_add(account=alice, secret=another, code=code(another))
        assert refused.value.code == "second_factor_exists"

    def test_somebody_elses_code_does_not_count(
        self, alice: Account, bob: Account, secret: str, codes: list[str]
    ) -> None:
        own = totp_secret_new()
        totp_add(account=bob, secret=own, code=code(own))
        assert refusal_of(bob, code(secret, later=1)) == "second_factor_invalid"
        assert refusal_of(bob, codes[0]) == "second_factor_invalid"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["totp", "recovery"])
def test_of_two_at_once_one_counts(
    alice: Account, secret: str, codes: list[str], kind: str
) -> None:
    tried = code(secret, later=1) if kind == "totp" else codes[0]
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            code_require(alice, tried)
            other = pool.submit(_takes, alice, tried)
            until_it_waits(other)
        assert other.result() is False


def _takes(account: Account, tried: str) -> bool:
    try:
        code_require(account, tried)
    except ApiError:
        return False
    else:
        return True
    finally:
        connection.close()


class TestRecoveryCodes:
    def test_each_counts_once(self, alice: Account, codes: list[str]) -> None:
        code_require(alice, f"{codes[3][:4]} {codes[3][4:]}")
        assert recovery_codes_left(alice) == 9
        assert refusal_of(alice, codes[3]) == "second_factor_invalid"
        code_require(alice, codes[4])

    def test_new_ones_end_the_old(self, alice: Account, codes: list[str]) -> None:
        new = recovery_codes_renew(account=alice)
        assert refusal_of(alice, codes[0]) == "second_factor_invalid"
        code_require(alice, new[0])

    def test_they_stand_in_for_something(self, bob: Account) -> None:
        with pytest.raises(ApiError) as refused:
            recovery_codes_renew(account=bob)
        assert refused.value.code == "no_second_factor"


class TestSealing:
    def test_no_secret_is_stored(self, alice: Account, secret: str, codes: list[str]) -> None:
        stored = str(list(Authenticator.objects.values_list("data", flat=True)))
        assert secret not in stored
        assert not any(each in stored for each in codes)

    def test_a_new_key_opens_what_the_old_one_sealed(
        self, alice: Account, secret: str, codes: list[str], settings: Any
    ) -> None:
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, [settings.SECRET_KEY]
        code_require(alice, code(secret, later=1))
        code_require(alice, codes[0])

    def test_without_the_old_key_no_code_counts(
        self, alice: Account, secret: str, codes: list[str], settings: Any
    ) -> None:
        settings.SECRET_KEY = "new" * 20
        assert refusal_of(alice, code(secret, later=1)) == "second_factor_invalid"
        assert refusal_of(alice, codes[0]) == "second_factor_invalid"


class TestRemoving:
    def test_the_last_takes_the_codes_along(
        self, alice: Account, bob: Account, codes: list[str]
    ) -> None:
        [factor] = second_factors(alice)
        second_factor_remove(account=alice, id=str(factor.pk))
        assert not Authenticator.objects.filter(user=alice).exists()

    @pytest.mark.parametrize("id", ["{id}", "0", "x", "9" * 40])
    def test_somebody_elses_is_not_found(
        self, alice: Account, bob: Account, codes: list[str], id: str
    ) -> None:
        [factor] = second_factors(alice)
        with pytest.raises(ApiError) as refused:
            second_factor_remove(account=bob, id=id.format(id=factor.pk))
        assert refused.value.status_code == 404
        assert has_second_factor(alice)

    def test_an_operator_keeps_one(self, operator: Account) -> None:
        [factor] = second_factors(operator)
        with pytest.raises(ApiError) as refused:
            second_factor_remove(account=operator, id=str(factor.pk))
        assert refused.value.code == "last_second_factor"
        assert has_second_factor(operator)

    def test_a_new_password_does_not(self, alice: Account, codes: list[str]) -> None:
        token = password_reset_link(alice).rpartition("/")[2]
        password_reset(account_id=alice.pk, token=token, password="another walk in the sun")
        assert has_second_factor(alice)

    def test_nothing_is_left_of_a_deleted_account(self, alice: Account, codes: list[str]) -> None:
        account_close(account=alice)
        assert not Authenticator.objects.exists()


class TestCommand:
    def test_it_works(self, operator: Account, capsys: Any) -> None:
        call_command("remove_second_factor", " Olga@Example.ORG")
        assert not has_second_factor(operator)
        assert "olga@example.org no longer has a second factor." in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("email", "message"),
        [("bob@example.org", "no second factor"), ("no@b.org", "No account has")],
    )
    def test_there_is_nothing_to_remove(self, bob: Account, email: str, message: str) -> None:
        with pytest.raises(CommandError, match=message):
            call_command("remove_second_factor", email)
