"""The one error shape, on everything below ``/api/``."""

from __future__ import annotations

import pytest
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db import OperationalError
from django.test import Client
from django.urls import include, path
from django.views.decorators.http import require_GET
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

from core.errors import ApiError, invalid, unauthorized

CANARY = "sk-canary-" + "7" * 20  # put together, so that no page finds it in the source


def _raise(error: Exception):
    credential = CANARY  # noqa: F841 (a page or a log that shows variables would show it)
    raise error


class Failing(APIView):
    """Raises what the test asks for."""

    authentication_classes = []
    permission_classes = [AllowAny]
    error: Exception

    def get(self, request):
        _raise(self.error)


def outside_of_django_rest_framework(request):
    _raise(RuntimeError("outside"))


def form_without_a_database(request):
    _raise(OperationalError(CANARY))


def middleware_without_a_database(get_response):
    """As the one that saves sessions."""

    def middleware(request):
        get_response(request)
        _raise(OperationalError(CANARY))

    return middleware


urlpatterns = [
    path("form", form_without_a_database),
    path("api/failing", Failing.as_view()),
    path("api/plain", outside_of_django_rest_framework),
    path("api/get-only", require_GET(outside_of_django_rest_framework)),
    path("plain", outside_of_django_rest_framework),
    path("", include("config.urls")),
]
handler400 = "core.errors.bad_request"
handler403 = "core.errors.permission_denied"
handler404 = "core.errors.page_not_found"
handler500 = "core.errors.server_error"

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def api() -> Client:
    return Client(raise_request_exception=False)


def assert_shape(response, status: int, code: str) -> dict:
    """Check all that is promised of every error, and return the body."""
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert body["code"] == code
    assert body["requestId"] == response["X-Request-Id"] != ""
    assert set(body) - {"fields"} == {"error", "code", "requestId"}
    assert ("fields" not in body) or status == 400
    assert body["error"]
    assert "Traceback" not in response.content.decode()
    assert CANARY not in response.content.decode()
    return body


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/account/", "/api/%0A%00"])
def test_an_unknown_path(api, method, path):
    assert_shape(getattr(api, method)(path), 404, "not_found")


def test_an_unknown_path_during_development(api, settings):
    settings.DEBUG = True
    assert_shape(api.get("/api/nothing"), 404, "not_found")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_a_wrong_method(api, method):
    response = getattr(api, method)("/api/auth/login")
    assert_shape(response, 405, "method_not_allowed")
    assert response["Allow"] == "POST, OPTIONS"


def test_options_says_the_methods_and_nothing_else(api):
    response = api.options("/api/auth/login")
    assert response.status_code == 200
    assert response["Allow"] == "POST, OPTIONS"
    assert response.json() == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'email': 1}",
        b'{"email": NaN}',
        b'{"email": "\\ud800"}',
        b'{"email": "\x00"}',
        b'{"email": "\xff"}',
        '{"email": "you"}'.encode("utf-16"),
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_json(api, body):
    response = api.post("/api/auth/login", body, content_type="application/json")
    assert_shape(response, 400, "invalid_json")
    assert list(response.json()["fields"]) == ["body"]


def test_a_charset_does_not_make_other_bytes_json(api):
    body = '{"email": "you"}'.encode("utf-16")
    media_type = "application/json; charset=utf-16"
    response = api.generic("POST", "/api/auth/login", body, content_type=media_type)
    body = assert_shape(response, 400, "invalid_request")
    assert body["fields"] == {"Content-Type": ["Send text in UTF-8, with charset=utf-8."]}


def test_no_body_lacks_the_fields(api):
    body = assert_shape(
        api.post("/api/auth/login", b"", content_type="application/json"), 400, "invalid_request"
    )
    assert set(body["fields"]) == {"email", "password"}


@pytest.mark.parametrize("body", [b"[]", b"7", b'"text"', b"[[{}]]", b"true"])
def test_a_body_that_is_no_object(api, body):
    response = api.post("/api/auth/login", body, content_type="application/json")
    assert assert_shape(response, 400, "invalid_request")["fields"] == {
        "body": ["Send a JSON object."]
    }


def test_null_is_no_body(api):
    response = api.post("/api/auth/login", b"null", content_type="application/json")
    assert list(assert_shape(response, 400, "invalid_request")["fields"]) == ["body"]


def test_a_body_of_ten_megabytes(api):
    body = b'{"email": "' + b"x" * 10_000_000 + b'"}'
    response = api.post("/api/auth/login", body, content_type="application/json")
    assert list(assert_shape(response, 400, "body_too_large")["fields"]) == ["body"]


@pytest.mark.parametrize(
    "media_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""]
)
def test_an_unsupported_media_type(api, media_type):
    response = api.post("/api/auth/login", b'{"email": "you"}', content_type=media_type)
    assert_shape(response, 415, "unsupported_media_type")


def test_an_unsupported_answer(api):
    response = api.get("/api/account", headers={"accept": "text/html"})
    assert_shape(response, 406, "not_acceptable")


@pytest.mark.parametrize("debug", [True, False])
def test_a_host_that_is_not_ours(api, settings, debug):
    settings.DEBUG = debug
    response = api.get("/api/account", headers={"host": "evil.example"})
    assert_shape(response, 400, "bad_request")


@pytest.mark.parametrize(
    ("error", "status", "code", "fields"),
    [
        (ApiError(409, "taken", "Take another."), 409, "taken", None),
        (unauthorized("no", "No."), 401, "no", None),
        (invalid({"a": ["Wrong."]}), 400, "invalid_request", {"a": ["Wrong."]}),
        (AuthenticationFailed("No."), 401, "authentication_failed", None),
        (Throttled(wait=3), 429, "too_many_requests", None),
        (SuspiciousOperation("x"), 400, "bad_request", None),
        (
            ValidationError({"company_name": ["Too long."]}),
            400,
            "invalid_request",
            {"companyName": ["Too long."]},
        ),
        (ValidationError("All wrong."), 400, "invalid_request", {"body": ["All wrong."]}),
        (
            ValidationError({"__all__": ["All wrong."]}),
            400,
            "invalid_request",
            {"body": ["All wrong."]},
        ),
        (serializers.ValidationError("Wrong."), 400, "invalid_request", {"body": ["Wrong."]}),
        (
            serializers.ValidationError({"a": "Wrong.", "b": {"c": [{}, {"d": ["No."]}]}}),
            400,
            "invalid_request",
            {"a": ["Wrong."], "b.c.1.d": ["No."]},
        ),
        (
            serializers.ValidationError({"non_field_errors": ["Wrong."]}),
            400,
            "invalid_request",
            {"body": ["Wrong."]},
        ),
    ],
)
def test_an_error_from_a_view(api, monkeypatch, error, status, code, fields):
    monkeypatch.setattr(Failing, "error", error, raising=False)
    body = assert_shape(api.get("/api/failing"), status, code)
    assert body.get("fields") == fields


def test_a_401_carries_the_challenge(api):
    response = api.get("/api/account")
    assert_shape(response, 401, "missing_credentials")
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_429_says_when_to_come_back(api, monkeypatch):
    monkeypatch.setattr(Failing, "error", Throttled(wait=3), raising=False)
    assert api.get("/api/failing")["Retry-After"] == "3"


@pytest.mark.parametrize("debug", [True, False])
def test_an_exception_in_a_view(api, monkeypatch, settings, debug, logged):
    settings.DEBUG = debug
    monkeypatch.setattr(Failing, "error", RuntimeError("inside"), raising=False)
    body = assert_shape(api.get("/api/failing"), 500, "internal_error")
    assert "inside" not in body["error"]
    assert "request_failed" in logged()
    assert "in _raise" in logged()  # the traceback is for us
    assert body["requestId"] in logged()
    assert CANARY not in logged()


@pytest.mark.parametrize("debug", [True, False])
def test_an_exception_outside_of_the_api_framework(api, settings, debug):
    settings.DEBUG = debug
    assert_shape(api.get("/api/plain"), 500, "internal_error")


def test_an_error_without_a_word_of_ours(api):
    assert_shape(api.post("/api/get-only"), 405, "method_not_allowed")


def test_a_body_without_a_length(api):
    headers = {"transfer-encoding": "chunked"}
    request = {"CONTENT_LENGTH": "", "CONTENT_TYPE": "application/json"}
    response = api.generic("POST", "/api/auth/login", b"", headers=headers, **request)
    assert_shape(response, 411, "length_required")


def test_an_exception_on_a_page_is_plain_text(api):
    response = api.get("/plain")
    assert response.status_code == 500
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert CANARY not in response.content.decode()


def test_in_a_browser_it_is_a_page(api):
    response = api.get("/plain", headers={"accept": "text/html", "x-request-id": "find-me"})
    assert response.status_code == 500
    text = response.content.decode()
    assert "<h1>Something went wrong on our side." in text
    assert "find-me" in text
    assert CANARY not in text


@pytest.mark.urls("config.urls")
@pytest.mark.parametrize("debug", [False, True])
def test_an_unknown_page(api, settings, debug):
    settings.DEBUG = debug
    response = api.get("/nothing", headers={"accept": "text/html"})
    assert response.status_code == 404
    assert "<h1>This resource does not exist" in response.content.decode()


def test_the_page_for_developers_shows_no_values(api, settings):
    settings.DEBUG = True
    headers = {"accept": "text/html", "authorization": "Bearer rtk_1"}
    text = api.post("/plain", {"secret": CANARY}, headers=headers).content.decode()
    assert "credential = CANARY" in text
    assert CANARY not in text
    assert "rtk_1" not in text


# An outage. What the processes say then is in ``test_outages``; none of this has a database.


def test_who_has_sent_a_form_is_not_told_to_wait_for_the_page():
    response = Client().post("/form", headers={"accept": "text/html"})
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    text = response.content.decode()
    assert "Your changes may not have been saved." in text
    assert "outage.js" not in text
    assert CANARY not in text


def test_middleware_that_has_no_database(settings):
    settings.DEBUG = False
    settings.MIDDLEWARE = [
        "core.middleware.RequestIdMiddleware",
        f"{__name__}.middleware_without_a_database",
    ]
    response = Client(raise_request_exception=False).get("/nothing")
    assert response.status_code == 503
    assert response["Retry-After"] == "5"


def test_what_a_database_error_led_to_is_an_outage_too(monkeypatch):
    """As the queue's own error, when a job cannot be queued."""
    error = RuntimeError("the job was not queued")
    error.__cause__ = OperationalError(CANARY)
    monkeypatch.setattr(Failing, "error", error, raising=False)
    response = Client().get("/api/failing")
    assert response.status_code == 503
    assert response.json()["code"] == "temporarily_unavailable"
