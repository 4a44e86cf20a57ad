"""The hooks' changes to valid requests. Every run of ``bin/fuzz`` shows that they suffice."""

from __future__ import annotations

import pytest
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError

from accounts.models import Account
from accounts.password_rules import NotTheAccountsOwn
from core.tests.described import assert_is
from devtools.fuzz import hooks
from telephony.numbering import registration_problem

REGISTRATION = {"email": "you@company.com", "password": "a long walk in the rain"}


def test_each_account_has_an_address_of_its_own() -> None:
    first, second = (hooks.registration(REGISTRATION)["email"] for _ in range(2))
    assert first != second
    assert first.endswith(".you@company.com")


def test_an_address_does_not_get_too_long() -> None:
    longest = REGISTRATION | {"email": f"{'y' * 64}@{'company.' * 23}com"[:254]}
    assert hooks.registration(longest | {"email": "y" * 254})["email"] == "y" * 254
    assert len(hooks.registration(longest)["email"]) <= 254


@pytest.mark.parametrize(
    "password", ["password123", "PASSWORD123", "00000000", " " * 8, "abababab"]
)
def test_a_common_password_gets_an_uncommon_end(password: str) -> None:
    replaced = hooks.registration(REGISTRATION | {"password": password})["password"]
    assert replaced.startswith(password)
    CommonPasswordValidator().validate(replaced)


@pytest.mark.parametrize(
    "likeness",
    [
        {"companyName": "3N2^^^C~~~G(.9é", "password": "3n2 c---g 9é -"},
        {"email": "reservations@company.com", "password": "Reservations!"},
        {"email": "you@company-of-mine.com", "password": "company of mine"},
    ],
)
def test_a_password_like_another_field_is_replaced(likeness: dict[str, str]) -> None:
    body = REGISTRATION | likeness
    account = Account(email=body["email"], company_name=body.get("companyName", ""))
    with pytest.raises(ValidationError):
        NotTheAccountsOwn().validate(body["password"], account)
    NotTheAccountsOwn().validate(hooks.registration(body)["password"], account)


def test_another_password_stays() -> None:
    assert hooks.registration(REGISTRATION)["password"] == REGISTRATION["password"]


@pytest.mark.parametrize("sent", ["twilioAccountSid", "twilioAuthToken"])
def test_half_a_proof_becomes_a_whole_one(sent: str) -> None:
    body = {"phoneNumber": "+12125550100"}
    proven = hooks.number(body | {sent: "x"})
    assert (proven["twilioAccountSid"], proven["twilioAuthToken"]) == (
        hooks.SANDBOX_ACCOUNT_SID,
        hooks.SANDBOX_AUTH_TOKEN,
    )
    assert hooks.number(body)["twilioAccountSid"] is None


def test_a_connection_has_what_a_new_number_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOLATED_SANDBOX_URL", "http://127.0.0.1:1")
    own = "https://your-backend.com/calls/start"
    body = {"phoneNumber": "+12125550100", "twilioAccountSid": "x", "twilioAuthToken": "x"}
    connection = hooks.connection(body | {"onCallStartUrl": own, "onCallEndUrl": None})
    assert connection == {
        "phoneNumber": "+15555550100",
        **hooks.CREDENTIALS,
        **hooks.callback_urls(),
        "onCallStartUrl": own,
    }
    assert_is(connection, "PhoneNumberConnectionRequest")


@pytest.mark.parametrize(("limit", "sent"), [(25.1414, 25.14), (7, 7), (None, None)])
def test_a_limit_is_whole_cents(limit: float | None, sent: float | None) -> None:
    assert hooks.spending_limit({"monthlyLimit": limit}) == {"monthlyLimit": sent}


def test_an_order_is_as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOLATED_SANDBOX_URL", "http://127.0.0.1:1")
    assert_is(hooks.order("+13035550100", hooks.DOES_NOT_ANSWER), "OutboundCallRequest")


@pytest.mark.parametrize("number", ["+19002345678", "+10000000000"])
def test_a_number_is_one_of_the_sandboxs(number: str) -> None:
    assert registration_problem(hooks.number({"phoneNumber": number})["phoneNumber"]) is None


@pytest.mark.parametrize(
    ("value", "without"),
    [
        ("a\0b", "ab"),
        ({"\0": ["\0", 1, None]}, {"": ["", 1, None]}),
        (r"a \u0000 that is text", r"a \u0000 that is text"),
        ([1.5, True, None], [1.5, True, None]),
    ],
)
def test_metadata_without_nul(value: object, without: object) -> None:
    assert hooks.without_nul(value) == without
