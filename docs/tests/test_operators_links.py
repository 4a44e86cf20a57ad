"""Terms, privacy, support and status are linked where the operators have set them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core import mail
from django.test import Client
from pytest_django import Settings

from accounts.mails import ACCOUNT_DELETED, PASSWORD_RESET_UNCONFIRMED, mail_send
from accounts.models import Account
from docs.tests.test_docs import Links, logged_in

OWN = {
    "TERMS_URL": "https://company.example/terms?lang=en",
    "PRIVACY_URL": "https://company.example/privacy",
    "SUPPORT_URL": "https://company.example/help",
    "STATUS_URL": "https://status.company.example",
}
AGREE = "By signing up, you agree to the "

pytestmark = pytest.mark.django_db


@pytest.fixture
def own(settings: Settings) -> None:
    for name, url in OWN.items():
        setattr(settings, name, url)


def footer(text: str) -> set[str]:
    return set(Links(text[text.index('<footer class="bottom">') :]).links)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "path", ["/", "/docs", "/docs/api", "/docs/callbacks", "/signup", "/login"]
)
def test_they_are_in_the_footer(path: str) -> None:
    assert set(OWN.values()) <= footer(Client().get(path).content.decode())


@pytest.mark.usefixtures("own")
def test_they_are_in_the_dashboard_too(alice: Account) -> None:
    for path in ("/dashboard", "/dashboard/billing", "/dashboard/settings"):
        assert set(OWN.values()) <= footer(logged_in(alice).get(path).content.decode())


@pytest.mark.usefixtures("own")
def test_they_are_on_error_pages(settings: Settings) -> None:
    settings.DEBUG = False
    response = Client().get("/nothing", headers={"accept": "text/html"})
    assert response.status_code == 404
    assert set(OWN.values()) <= footer(response.content.decode())


@pytest.mark.parametrize("path", ["/", "/signup"])
def test_what_is_not_set_is_not_shown(path: str) -> None:
    text = Client().get(path).content.decode()
    for word in ("Terms", "Privacy", "Support", "Status", AGREE):
        assert f">{word}<" not in text
        assert AGREE not in text


def test_support_may_be_an_email_address(settings: Settings) -> None:
    settings.SUPPORT_EMAIL = "help@company.example"
    assert "mailto:help@company.example" in footer(Client().get("/").content.decode())


class TestSignUp:
    def test_it_says_the_price(self, settings: Settings) -> None:
        settings.MONTHLY_BASE, settings.PER_MINUTE_RATE = Decimal(7), Decimal("0.0125")
        text = Client().get("/signup").content.decode()
        assert "$7.00 a month plus $0.0125 a minute. Twilio and OpenAI bill you separately." in text

    @pytest.mark.parametrize(
        ("names", "sentence"),
        [
            (["TERMS_URL", "PRIVACY_URL"], "the terms and the privacy policy."),
            (["TERMS_URL"], "the terms."),
            (["PRIVACY_URL"], "the privacy policy."),
        ],
    )
    def test_it_says_what_one_agrees_to(
        self, settings: Settings, names: list[str], sentence: str
    ) -> None:
        for name in names:
            setattr(settings, name, OWN[name])
        text = Client().get("/signup").content.decode()
        said = text[text.index(AGREE) : text.index("</p>", text.index(AGREE))]
        assert _without_tags(said) == f"By signing up, you agree to {sentence}"
        assert Links(said).links == [OWN[name].replace("&", "&amp;") for name in names]


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ({"SUPPORT_URL": OWN["SUPPORT_URL"]}, OWN["SUPPORT_URL"]),
        ({"SUPPORT_EMAIL": "help@company.example"}, "help@company.example"),
        ({"PUBLIC_URL": "https://calls.example.org"}, "https://calls.example.org"),
    ],
)
@pytest.mark.parametrize("name", [ACCOUNT_DELETED, PASSWORD_RESET_UNCONFIRMED])
def test_emails_say_how_to_contact_support(
    settings: Settings, alice: Account, name: str, own: dict[str, str], shown: str
) -> None:
    for setting, value in own.items():
        setattr(settings, setting, value)
    mail_send(account=alice, name=name, context={})
    assert f"\n\n{shown}\n" in mail.outbox[-1].body


def _without_tags(text: str) -> str:
    return "".join(part.partition(">")[2] if ">" in part else part for part in text.split("<"))
