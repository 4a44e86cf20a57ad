"""Requests that are too large get an error in the format that the client reads."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client
from rest_framework.test import APIClient

from accounts.models import Account
from conftest import PASSWORD
from core import request_limits

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
LOGIN = {"email": "alice@example.org", "password": PASSWORD}
LOGGED_IN = 302


def form_of(size: int) -> bytes:
    begin = f"{urlencode(LOGIN)}&filler=".encode()
    return begin + b"x" * (size - len(begin))


def test_it_works(alice: Account) -> None:
    body = form_of(request_limits.BODY)
    assert Client().post("/login", body, content_type=FORM).status_code == LOGGED_IN


@pytest.mark.parametrize("path", ["/login", "/", "/webhooks/stripe/1", "/nowhere", "/admin/"])
def test_a_form(path: str) -> None:
    body = form_of(request_limits.BODY + 1)
    response = Client().post(path, body, content_type=FORM)
    assert response.status_code == 413
    assert response.content == b"The request is too large. Send at most 256 KB.\n"


def test_a_browsers_form() -> None:
    body = form_of(request_limits.BODY + 1)
    response = Client().post("/login", body, content_type=FORM, headers={"accept": "text/html"})
    assert response.status_code == 413
    assert b"Send at most 256 KB" in response.content
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("method", ["post", "patch", "get"])
def test_the_api(method: str, alice_api: APIClient) -> None:
    body = b'{"a": "' + b"x" * request_limits.BODY + b'"}'
    response = alice_api.generic(method.upper(), "/api/phone-numbers", body, "application/json")
    answer = response.json()
    assert (response.status_code, answer["code"]) == (400, "body_too_large")
    assert answer["fields"] == {"body": ["The request is too large. Send at most 256 KB."]}


@pytest.mark.parametrize("path", ["/voice", "/voice/status/x"])
async def test_twilio(path: str) -> None:
    sizes = {request_limits.VOICE_BODY: 400, request_limits.VOICE_BODY + 1: 413}
    for size, status in sizes.items():
        response = await AsyncClient().post(path, form_of(size), content_type=FORM)
        assert response.status_code == status
    assert b"Send at most 64 KB" in response.content


def test_it_is_not_read() -> None:
    """The length alone says it."""

    class Unreadable:
        def read(self, *_: object) -> bytes:
            raise AssertionError("It was read.")

        readline = read

    response = Client().generic(
        "POST",
        "/login",
        content_type="multipart/form-data; boundary=x",
        **{"CONTENT_LENGTH": "2000000", "wsgi.input": Unreadable()},
    )
    assert response.status_code == 413


def test_a_file_is_not_taken(alice: Account) -> None:
    file = SimpleUploadedFile("small.txt", b"small")
    assert Client().post("/login", LOGIN).status_code == LOGGED_IN
    assert Client().post("/login", LOGIN | {"file": file}).status_code == 400


@pytest.mark.parametrize(("more", "status"), [(298, LOGGED_IN), (299, 400)])
def test_more_fields_than_any_form_has(more: int, status: int, alice: Account) -> None:
    fields = urlencode(LOGIN) + "".join(f"&a{number}=1" for number in range(more))
    assert Client().post("/login", fields, content_type=FORM).status_code == status
