from __future__ import annotations

import re

import pytest
from django.db import IntegrityError

from accounts.email_addresses import normalize_email
from accounts.models import (
    Account,
    WebhookSecret,
    digest_of,
    is_well_formed,
    new_api_key,
)


class TestApiKeys:
    def test_the_shape(self):
        assert re.fullmatch(r"rtk_[0-9A-Za-z]{32}[0-9A-Za-z]{6}", new_api_key())

    def test_the_checksum_fits(self):
        assert is_well_formed(new_api_key())

    def test_a_typing_error_is_noticed_wherever_it_is(self):
        key = new_api_key()
        for index in range(len(key)):
            other = "x" if key[index] != "x" else "y"
            assert not is_well_formed(key[:index] + other + key[index + 1 :])

    @pytest.mark.parametrize("key", ["", "rtk_", "rtk_" + "0" * 38, "sk_" + "0" * 38, "rtk_" * 10])
    def test_what_is_none_is_noticed(self, key):
        assert not is_well_formed(key)

    def test_the_digest_is_sha256(self):
        assert digest_of("abc") == (
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )


class TestAccount:
    def test_addresses_are_compared_without_case_and_spaces(self):
        assert normalize_email(" You@Company.EXAMPLE ") == "you@company.example"

    @pytest.mark.django_db
    def test_the_database_holds_to_it(self):
        with pytest.raises(IntegrityError, match="account_email_lower_case"):
            Account.objects.create(email="You@company.example")

    @pytest.mark.django_db
    def test_every_account_has_a_secret(self, alice, operator):
        for account in (alice, operator):
            assert account.webhook_secret.secret.startswith("whsec_")

    @pytest.mark.django_db
    def test_no_account_is_left_without_one(self, monkeypatch):
        monkeypatch.setattr(WebhookSecret, "PURPOSE", 7)  # sealing fails
        with pytest.raises(AttributeError):
            Account.objects.create_user("you@company.example", "a long walk")
        assert not Account.objects.exists()

    @pytest.mark.parametrize(
        ("status", "suspended", "effective"),
        [
            ("ACTIVE", False, "ACTIVE"),
            ("ACTIVE", True, "SUSPENDED"),
            ("INACTIVE", False, "INACTIVE"),
            ("INACTIVE", True, "SUSPENDED"),
            ("SUSPENDED", False, "SUSPENDED"),
        ],
    )
    def test_an_operators_suspension_wins(self, status, suspended, effective):
        account = Account(status=status, suspended_by_operator=suspended)
        assert account.effective_status == effective
