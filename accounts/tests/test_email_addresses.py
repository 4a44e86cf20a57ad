from __future__ import annotations

import sys
from importlib import import_module

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connection

from accounts.email_addresses import normalize_email, validate_ascii_email
from accounts.models import Account

BODY = {"password": "a long walk in the rain"}


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (" You@Company.EXAMPLE ", "you@company.example"),
        ("me@M\u00fcnchen.de", "me@xn--mnchen-3ya.de"),
        ("me@fa\u00df.de", "me@xn--fa-hia.de"),
        ("me@\u682a\u5f0f\u4f1a\u793e.jp", "me@xn--6oqv20b1zgzxr.jp"),
        ("me@xn--mnchen-3ya.de", "me@xn--mnchen-3ya.de"),
        ("me@\uff45xample.com", "me@example.com"),
    ],
)
def test_it_works(typed, stored):
    assert normalize_email(typed) == stored
    validate_ascii_email(stored)


@pytest.mark.parametrize(
    "typed",
    [
        "\u212aim@x.com",
        "\u017fam@x.com",
        "\u0131@x.com",
        "me@x\u1c89.com",
        "me@\u00e9..com",
        "a b@x.com",
    ],
)
def test_what_has_no_such_form_is_refused(typed):
    with pytest.raises(ValidationError, match="Use only ASCII"):
        validate_ascii_email(normalize_email(typed))


@pytest.mark.django_db
def test_python_and_postgresql_agree_on_every_letter():
    """Every character that has a case somewhere, in a domain and before it."""
    letters = [chr(c) for c in range(sys.maxunicode) if chr(c).lower() != chr(c).upper()]
    letters += ["\ua7cb", "\u1c89", "\u1c8a"]  # of versions of Unicode to come
    addresses = [f"a{letter}@x.com" for letter in letters] + [f"a@x{each}.com" for each in letters]
    stored = [each for each in map(normalize_email, addresses) if _is_valid(each)]
    assert len(stored) > 1000
    with connection.cursor() as cursor:
        cursor.execute("SELECT e FROM unnest(%s::text[]) AS e WHERE LOWER(e) <> e", [stored])
        assert cursor.fetchall() == []
    assert [each for each in stored if not each.isascii() or normalize_email(each) != each] == []


def _is_valid(email):
    try:
        validate_ascii_email(email)
    except ValidationError:
        return False
    return True


@pytest.mark.django_db
class TestAccounts:
    def test_a_domain_may_be_written_either_way(self, anonymous_api):
        response = anonymous_api.post("/api/auth/register", {"email": "me@M\u00dcnchen.de", **BODY})
        assert response.status_code == 201
        assert response.json()["account"]["email"] == "me@xn--mnchen-3ya.de"
        for email in ("me@m\u00fcnchen.de", "ME@xn--mnchen-3ya.de"):
            response = anonymous_api.post("/api/auth/login", {"email": email, **BODY})
            assert response.status_code == 200
        response = anonymous_api.post("/api/auth/register", {"email": "me@m\u00fcnchen.de", **BODY})
        assert (response.status_code, response.json()["code"]) == (409, "email_taken")

    @pytest.mark.parametrize("email", ["\u212aim@x.com", "you@x\u1c89.com", '"a\x07"@x.com'])
    def test_another_address_is_refused_by_its_name(self, anonymous_api, email):
        response = anonymous_api.post("/api/auth/register", {"email": email, **BODY})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["email"]

    def test_a_letter_that_is_new_is_no_failure(self, anonymous_api):
        response = anonymous_api.post("/api/auth/register", {"email": "you@x\ua7cb.com", **BODY})
        assert response.status_code in (201, 400)

    def test_a_company_is_one_line(self, anonymous_api, client, alice):
        body = {"email": "me@x.com", **BODY, "companyName": "Alice\r\nSee https://evil.example"}
        response = anonymous_api.post("/api/auth/register", body)
        assert response.json()["fields"] == {
            "companyName": ["Use one line, without tabs and line breaks."]
        }
        client.force_login(alice)
        page = client.post("/dashboard/settings/company", {"company_name": "A\nB"})
        assert page.status_code == 400
        assert "Use one line" in page.content.decode()
        alice.refresh_from_db()
        assert alice.company_name == "Alice's Plumbing"

    def test_what_was_stored_before_is_found(self, alice, bob):
        """The migration writes domains as they are looked for now."""
        Account.objects.filter(pk=alice.pk).update(email="alice@m\u00fcnchen.de")
        Account.objects.filter(pk=bob.pk).update(email="bob@x\u1c8a.com")
        migration = import_module("accounts.migrations.0008_texts_and_ascii_emails")
        migration.use_ascii_domains(apps, None)
        assert Account.objects.with_email("alice@m\u00fcnchen.de").get() == alice
        bob.refresh_from_db()
        assert bob.email == "bob@x\u1c8a.com"
