"""How a form's errors are shown, whatever the form."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from accounts.models import Account
from core.errors import ApiError
from dashboard.forms import problem_in
from dashboard.tests.pages import assert_well_made

pytestmark = pytest.mark.django_db

NUMBER = "/dashboard/numbers/new"
FOCUSED = re.compile(r"<(?:input|select|textarea|div)\b[^>]*\bautofocus\b[^>]*>")


def focused(text: str) -> str:
    """Return the one element that gets the focus."""
    [element] = FOCUSED.findall(text)
    return str(element)


class TestErrors:
    def test_the_first_wrong_field_has_the_focus_and_its_error(self, alice_web: Client) -> None:
        form = {
            "phone_number": "+15551234567",
            "on_call_start_url": "https://your-backend.com/start",
            "on_call_end_url": "nothing",
        }
        text = alice_web.post(NUMBER, form).content.decode()
        field = focused(text)
        assert 'name="on_call_end_url"' in field
        assert 'aria-invalid="true"' in field
        described = re.findall(r'aria-describedby="([^"]*)"', field)[0].split()
        assert described == ["id_on_call_end_url_helptext", "id_on_call_end_url_error"]
        assert all(f'id="{each}"' in text for each in described)
        assert "Correct " not in text
        assert_well_made(text)

    def test_several_are_also_listed_on_top(self, alice_web: Client) -> None:
        form = {"on_call_end_url": "ftp://x", "on_error_url": "ftp://y"}
        text = alice_web.post(NUMBER, form).content.decode()
        assert "Correct 4 fields:" in text
        links = re.findall(r'<li><a href="#(id_\w+)">', text)
        assert links == [
            f"id_{name}"
            for name in ("phone_number", "on_call_start_url", "on_call_end_url", "on_error_url")
        ]
        assert all(f'id="{each}"' in text for each in links)
        assert 'name="phone_number"' in focused(text)
        assert_well_made(text)

    def test_an_error_of_the_form_itself_has_the_focus(self, alice: Account, password: str) -> None:
        form = {"email": alice.email, "password": "a guess"}
        text = Client().post("/login", form).content.decode()
        assert 'role="alert" tabindex="-1"' in focused(text)

    def test_a_form_without_errors_keeps_its_own_focus(self) -> None:
        assert 'name="email"' in focused(Client().get("/login").content.decode())

    def test_a_wrong_password_and_a_weak_new_one(self, alice_web: Client) -> None:
        form = {"current_password": "a guess", "password": "short"}
        response = alice_web.post("/dashboard/settings/password", form)
        errors = response.context["forms"]["password"].errors
        assert set(errors) == {"current_password", "password"}
        assert 'name="current_password"' in focused(response.content.decode())


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (ApiError(409, "taken", "It is taken."), "It is taken."),
        (ApiError(400, "invalid", "Wrong.", fields={"a": ["A.", "B."], "b": ["A."]}), "A. B."),
        (ValidationError({"a": ["A."], "b": ["B.", "A."]}), "A. B."),
        (ValidationError("A."), "A."),
    ],
)
def test_a_services_error_in_one_text_says_each_thing_once(
    refusal: ApiError | ValidationError, text: str
) -> None:
    assert problem_in(refusal) == text


def test_a_webhook_of_notifications_is_a_secret_to_drafts(alice_web: Client) -> None:
    text = alice_web.get("/dashboard/settings/notifications").content.decode()
    assert re.search(r'<input type="url" name="url"[^>]* data-secret', text)
