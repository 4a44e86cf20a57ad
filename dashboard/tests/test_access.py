"""The way to the sign-in and back, and the addresses of forms that somebody opens."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import resolve

from accounts.models import Account
from core.errors import unknown_path
from dashboard.tests.test_numbers import number_of

pytestmark = pytest.mark.django_db

BROWSER = {"accept": "text/html"}
COMPANY = "/dashboard/settings/company"


class TestAFormAfterTheSessionHasEnded:
    def test_it_leads_back_to_the_page_that_it_was_on(self) -> None:
        referer = {"referer": "http://testserver/dashboard/numbers?page=2"}
        response = Client().post("/dashboard/numbers/1/remove", headers=referer)
        assert response["Location"] == "/login?next=/dashboard/numbers%3Fpage%3D2"

    @pytest.mark.parametrize(
        "referer", ["", "https://evil.example/dashboard", "http://testserver//evil.example"]
    )
    def test_or_to_its_own_address(self, referer: str) -> None:
        response = Client().post(COMPANY, headers={"referer": referer})
        assert response["Location"] == f"/login?next={COMPANY}"

    def test_the_sign_in_says_that_nothing_was_saved(self, alice: Account, password: str) -> None:
        web = Client()
        text = web.post(COMPANY, {"company_name": "Typed"}, follow=True).content.decode()
        assert "Your session has ended, so nothing was saved." in text
        assert "Typed" not in text
        form = {"email": alice.email, "password": password, "next": COMPANY}
        assert web.post("/login", form)["Location"] == COMPANY
        alice.refresh_from_db()
        assert alice.company_name != "Typed"

    def test_who_only_opens_a_page_is_not_told(self) -> None:
        response = Client().get("/dashboard/settings", follow=True)
        assert "Your session has ended" not in response.content.decode()


@pytest.mark.parametrize(
    ("path", "page"),
    [
        (COMPANY, "/dashboard/settings"),
        ("/dashboard/keys/abc/revoke", "/dashboard/keys"),
        ("/dashboard/keys/secret/rotate", "/dashboard/keys/secret"),
        ("/dashboard/billing/pay", "/dashboard/billing"),
        ("/dashboard/test-call/start", "/dashboard/test-call"),
        ("/email/confirm", "/dashboard"),
    ],
)
def test_the_address_of_a_form_leads_to_the_page_above(
    alice_web: Client, path: str, page: str
) -> None:
    assert resolve(path).func is not unknown_path
    response = alice_web.get(path, headers=BROWSER)
    assert (response.status_code, response["Location"]) == (302, page)


def test_a_numbers_forms_lead_to_the_number(alice: Account, alice_web: Client) -> None:
    number = number_of(alice)
    response = alice_web.get(f"/dashboard/numbers/{number.id}/remove", headers=BROWSER)
    assert response["Location"] == f"/dashboard/numbers/{number.id}"


def test_an_address_outside_of_the_dashboard_has_an_error_page(alice_web: Client) -> None:
    response = alice_web.get("/logout", headers=BROWSER)
    assert response.status_code == 405
    assert response["Allow"] == "POST"
    assert "<h1>" in response.content.decode()
