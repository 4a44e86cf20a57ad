"""The API reference, line by line, against a running server.

Every request, response field, default, limit and error code, in the reference's order and with its
names and numbers. The answers that it shows are here as it shows them: an answer must have exactly
their fields, of their types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from billing.models import StatusCheck
from billing.status_checks import status_check
from billing.tests.setting_up import set_up_stripe
from core.ids import is_id
from core.tests.described import assert_described
from core.tests.web import web_process
from sandbox.payments import steering, testing
from sandbox.payments.models import Fault
from telephony.tests.twilio_stand_in import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CALL_SID,
    Twilio,
    call_resource,
    running_twilio,
)
from usage.services import usage_record_create

pytestmark = pytest.mark.django_db(transaction=True)

EMAIL = "you@company.com"
PASSWORD = "min_8_chars"
NUMBER = "+15551234567"
NUMBER_BODY = {
    "phoneNumber": NUMBER,
    "onCallStartUrl": "https://your-backend.com/calls/start",
    "onCallEndUrl": "https://your-backend.com/calls/end",
}
OUTBOUND = {
    "to": "+15559876543",
    "from": NUMBER,
    "onCallStartUrl": "https://your-backend.com/calls/start",
    "onCallEndUrl": "https://your-backend.com/calls/end",
    "twilioAccountSid": ACCOUNT_SID,
    "twilioAuthToken": AUTH_TOKEN,
}
# "Callback URLs must be public HTTPS endpoints."
NO_CALLBACK_URLS = [
    "http://your-backend.com/",
    "https://localhost/",
    "https://10.0.0.1/",
    "calls/start",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Answer:
    """An answer, after what holds for every one of them was checked."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.body: Any = response.json()
        assert self.headers["Content-Type"] == "application/json"
        assert self.headers["X-Request-Id"]
        if self.status >= 400:
            assert self.body["requestId"] == self.headers["X-Request-Id"]
            assert set(self.body) - {"fields"} == {"error", "code", "requestId"}
            assert ("fields" in self.body) <= (self.status == 400)

    def is_like(self, operation_id: str, status: int, example: Any) -> Any:
        """The answer is what the reference shows, and what the OpenAPI document says."""
        assert self.status == status, self.body
        assert shape(self.body) == shape(example)
        assert_described(self.body, operation_id, status)
        return self.body

    def is_error(self, operation_id: str, status: int, code: str, *fields: str) -> None:
        assert (self.status, self.body["code"]) == (status, code), self.body
        assert list(self.body.get("fields", {})) == list(fields)
        assert_described(self.body, operation_id, status)
        if status == 401:
            assert self.headers["WWW-Authenticate"] == "Bearer"


class Server:
    """The server, as somebody asks it who has a key, or none."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        self.key = key

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return Answer(
            requests.request(method, self.url + path, json=body, headers=headers, timeout=20)
        )

    def page(self, url: str) -> str:
        """Return where a page is that the server has at its public address."""
        return self.url + urlsplit(url).path

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.ask("POST", path, body)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def having(self, key: str) -> Server:
        return Server(self.url, key)

    def registered(self, email: str = EMAIL, status: str = "") -> Server:
        """Make an account; return the server as that account asks it, with its first key."""
        request = {"email": email, "password": PASSWORD, "companyName": "Your Company"}
        answer = self.post("/api/auth/register", request)
        assert answer.status == 201
        if status:
            Account.objects.filter(email=email).update(status=status)
        return self.having(answer.body["apiKey"])

    def active(self, email: str = EMAIL) -> Server:
        return self.registered(email, "ACTIVE")

    def with_number(self) -> Server:
        """Make an active account that has registered ``NUMBER``."""
        customer = self.active()
        assert customer.post("/api/phone-numbers", NUMBER_BODY).status == 201
        return customer


def shape(value: Any) -> Any:
    """Return the fields of a value, with their JSON types in place of what they hold."""
    match value:
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case list():
            return [shape(item) for item in value]
        case bool() | None:
            return type(value).__name__
        case int() | float():
            return "number"
        case _:
            return "string"


@pytest.fixture(scope="module")
def twilio() -> Iterator[Twilio]:
    with running_twilio() as twilio:
        yield twilio


@pytest.fixture(scope="module")
def running(django_db_setup: None, twilio: Twilio) -> Iterator[str]:
    with web_process(workers=1, TWILIO_API_URL=twilio.url, CALLBACK_ALLOW_PRIVATE="0") as web:
        yield web.url


@pytest.fixture
def shop() -> None:
    """The product exists at Stripe: the payments sandbox, here and in the server."""
    set_up_stripe()


@pytest.fixture
def server(running: str) -> Server:
    return Server(running)


@pytest.fixture(autouse=True)
def twilio_takes_calls(twilio: Twilio) -> None:
    twilio.status, twilio.body = 201, call_resource()
    twilio.received.clear()


# "All endpoints require Authorization: Bearer rtk_... unless noted."

ENDPOINTS = [
    ("getAccount", "GET", "/api/account"),
    ("createApiKey", "POST", "/api/api-keys"),
    ("listApiKeys", "GET", "/api/api-keys"),
    ("revokeApiKey", "DELETE", "/api/api-keys/clx"),
    ("registerPhoneNumber", "POST", "/api/phone-numbers"),
    ("listPhoneNumbers", "GET", "/api/phone-numbers"),
    ("removePhoneNumber", "DELETE", "/api/phone-numbers/clx"),
    ("listTwilioNumbers", "POST", "/api/phone-numbers/twilio"),
    ("connectPhoneNumber", "POST", "/api/phone-numbers/connect"),
    ("placeCall", "POST", "/api/outbound"),
    ("listUsage", "GET", "/api/usage"),
    ("getCurrentUsage", "GET", "/api/usage/current"),
    ("openBillingPortal", "POST", "/api/billing/portal"),
    ("getSubscription", "GET", "/api/billing/subscription"),
    ("openCheckout", "POST", "/api/billing/checkout"),
    ("listInvoices", "GET", "/api/billing/invoices"),
    ("getUpcomingInvoice", "GET", "/api/billing/invoices/upcoming"),
    ("getSpendingLimit", "GET", "/api/billing/spending-limit"),
    ("setSpendingLimit", "PUT", "/api/billing/spending-limit"),
    ("listDeliveries", "GET", "/api/deliveries"),
    ("resendDelivery", "POST", "/api/deliveries/clx/resend"),
]


@pytest.mark.parametrize(("operation", "method", "path"), ENDPOINTS)
def test_authorization(server: Server, operation: str, method: str, path: str) -> None:
    server.ask(method, path).is_error(operation, 401, "missing_credentials")
    server.having("rtk_wrong").ask(method, path).is_error(operation, 401, "malformed_api_key")
    server.having("eyJhbG.x.y").ask(method, path).is_error(operation, 401, "invalid_token")


class TestRegister:
    """POST /api/auth/register: create an account. No auth required."""

    @pytest.mark.usefixtures("shop")
    def test_response(self, server: Server) -> None:
        request = {"email": EMAIL, "password": PASSWORD, "companyName": "Your Company"}
        body = server.post("/api/auth/register", request).is_like(
            "register",
            201,
            {
                "account": {
                    "id": "clx...",
                    "email": "you@company.com",
                    "companyName": "Your Company",
                    "status": "INACTIVE",
                },
                "apiKey": "rtk_abc123...",
                "token": "eyJhbG...",
                "checkoutUrl": "https://checkout.stripe.com/...",
                "engineVoiceUrl": "https://engine.veevo.ai/voice",
            },
        )
        assert is_id(body["account"].pop("id"))
        assert body["account"] == {
            "email": EMAIL,
            "companyName": "Your Company",
            "status": "INACTIVE",
        }
        assert body["apiKey"].startswith("rtk_")
        assert body["token"].startswith("eyJhbG")
        assert body["engineVoiceUrl"].endswith("/voice")
        checkout = requests.get(server.page(body["checkoutUrl"]), timeout=20)
        assert checkout.status_code == 200  # "Open checkoutUrl to complete payment."

    @pytest.mark.parametrize("credential", ["apiKey", "token"])
    def test_what_it_gives_out_opens_the_account(self, server: Server, credential: str) -> None:
        request = {"email": EMAIL, "password": PASSWORD, "companyName": "Your Company"}
        body = server.post("/api/auth/register", request).body
        account = server.having(body[credential]).get("/api/account").body["account"]
        assert account.items() >= body["account"].items()

    def test_a_credential_is_not_asked_for(self, server: Server) -> None:
        """ "No auth required": not even one that is wrong is looked at."""
        request = {"email": EMAIL, "password": PASSWORD}
        anybody = server.having("rtk_wrong")
        assert anybody.post("/api/auth/register", request).status == 201
        assert anybody.post("/api/auth/login", request).status == 200

    @pytest.mark.parametrize("optional", [{}, {"companyName": None}, {"companyName": ""}])
    def test_company_name_is_optional(self, server: Server, optional: dict[str, Any]) -> None:
        request = {"email": EMAIL, "password": PASSWORD} | optional
        assert server.post("/api/auth/register", request).body["account"]["companyName"] is None

    def test_the_password_has_eight_characters(self, server: Server) -> None:
        for password, status in (("x7-kq9w", 400), ("x7-kq9wz", 201)):
            answer = server.post("/api/auth/register", {"email": EMAIL, "password": password})
            assert answer.status == status
            if status == 400:
                answer.is_error("register", 400, "invalid_request", "password")

    @pytest.mark.parametrize("field", ["email", "password"])
    def test_what_is_required(self, server: Server, field: str) -> None:
        request = {"email": EMAIL, "password": PASSWORD}
        del request[field]
        answer = server.post("/api/auth/register", request)
        answer.is_error("register", 400, "invalid_request", field)

    def test_an_email_has_one_account(self, server: Server) -> None:
        server.registered()
        request = {"email": EMAIL.upper(), "password": PASSWORD}
        server.post("/api/auth/register", request).is_error("register", 409, "email_taken")


class TestLogin:
    """POST /api/auth/login: get a JWT token. No auth required."""

    def test_response(self, server: Server) -> None:
        server.registered()
        body = server.post("/api/auth/login", {"email": EMAIL, "password": PASSWORD}).is_like(
            "logIn", 200, {"token": "eyJhbG..."}
        )
        assert server.having(body["token"]).get("/api/account").status == 200

    def test_wrong_credentials(self, server: Server) -> None:
        server.registered()
        for request in (
            {"email": EMAIL, "password": "another password"},
            {"email": "nobody@company.com", "password": PASSWORD},
        ):
            server.post("/api/auth/login", request).is_error("logIn", 401, "invalid_credentials")

    def test_what_is_required(self, server: Server) -> None:
        answer = server.post("/api/auth/login", {})
        answer.is_error("logIn", 400, "invalid_request", "email", "password")


class TestAccount:
    """GET /api/account: details, status, and resource counts."""

    EXAMPLE = {
        "account": {
            "id": "clx...",
            "email": "you@company.com",
            "companyName": "Your Company",
            "status": "ACTIVE",
            "createdAt": "2026-04-01T...",
            "_count": {"phoneNumbers": 2, "apiKeys": 1},
        }
    }

    def test_response(self, server: Server) -> None:
        customer = server.with_number()
        other = NUMBER_BODY | {"phoneNumber": "+15551234568"}
        assert customer.post("/api/phone-numbers", other).status == 201
        account = customer.get("/api/account").is_like("getAccount", 200, self.EXAMPLE)["account"]
        assert account["status"] == "ACTIVE"
        assert account["_count"] == {"phoneNumbers": 2, "apiKeys": 1}
        assert TIME.fullmatch(account["createdAt"])

    @pytest.mark.parametrize("status", ["INACTIVE", "ACTIVE", "SUSPENDED"])
    def test_every_status_may_look(self, server: Server, status: str) -> None:
        customer = server.registered(status=status)
        assert customer.get("/api/account").body["account"]["status"] == status


class TestApiKeys:
    """/api/api-keys: make another, list the active ones, revoke one."""

    def test_create(self, server: Server) -> None:
        customer = server.registered()
        body = customer.post("/api/api-keys", {"label": "Production"}).is_like(
            "createApiKey",
            201,
            {
                "id": "clx...",
                "key": "rtk_newkey...",
                "keyPrefix": "rtk_new",
                "label": "Production",
                "createdAt": "2026-04-01T...",
            },
        )
        assert body["label"] == "Production"
        assert body["keyPrefix"] == body["key"][:7]
        assert TIME.fullmatch(body["createdAt"])
        assert server.having(body["key"]).get("/api/account").status == 200

    @pytest.mark.parametrize("body", [{}, None, {"label": None}])
    def test_the_label_is_optional(self, server: Server, body: Any) -> None:
        assert server.registered().post("/api/api-keys", body).body["label"] == "Default"

    def test_list(self, server: Server) -> None:
        customer = server.registered()
        body = customer.get("/api/api-keys").is_like(
            "listApiKeys",
            200,
            {
                "apiKeys": [
                    {
                        "id": "clx...",
                        "keyPrefix": "rtk_abc",
                        "label": "Default",
                        "lastUsedAt": "2026-04-05T...",
                        "createdAt": "2026-04-01T...",
                    }
                ]
            },
        )
        (key,) = body["apiKeys"]
        assert key["keyPrefix"] == customer.key[:7]
        assert key["label"] == "Default"
        assert customer.key not in str(body)  # "only prefixes are returned"

    def test_a_key_that_was_never_used(self, server: Server) -> None:
        customer = server.registered()
        customer.post("/api/api-keys", {"label": "Unused"})
        newest, _ = customer.get("/api/api-keys").body["apiKeys"]
        assert (newest["label"], newest["lastUsedAt"]) == ("Unused", None)

    def test_revoke(self, server: Server) -> None:
        customer = server.registered()
        made = customer.post("/api/api-keys").body
        answer = customer.delete(f"/api/api-keys/{made['id']}")
        assert answer.is_like("revokeApiKey", 200, {"revoked": True}) == {"revoked": True}
        revoked = server.having(made["key"])
        revoked.get("/api/account").is_error("getAccount", 401, "invalid_api_key")
        assert len(customer.get("/api/api-keys").body["apiKeys"]) == 1
        customer.delete(f"/api/api-keys/{made['id']}").is_error("revokeApiKey", 404, "not_found")

    def test_somebody_elses(self, server: Server) -> None:
        made = server.registered("other@company.com").post("/api/api-keys").body
        answer = server.registered().delete(f"/api/api-keys/{made['id']}")
        answer.is_error("revokeApiKey", 404, "not_found")


class TestPhoneNumbers:
    """/api/phone-numbers: register one with its callback URLs, list them, remove one."""

    EXAMPLE = {
        "phoneNumber": {
            "id": "clx...",
            "phoneNumber": "+15551234567",
            "name": None,  # added to the reference
            "onCallStartUrl": "https://your-backend.com/calls/start",
            "onCallEndUrl": "https://your-backend.com/calls/end",
            "onErrorUrl": None,
            "isActive": True,
            "createdAt": "2026-04-01T...",
        }
    }

    def test_register(self, server: Server) -> None:
        answer = server.active().post("/api/phone-numbers", NUMBER_BODY)
        number = answer.is_like("registerPhoneNumber", 201, self.EXAMPLE)["phoneNumber"]
        assert is_id(number.pop("id"))
        assert TIME.fullmatch(number.pop("createdAt"))
        assert number == NUMBER_BODY | {"name": None, "onErrorUrl": None, "isActive": True}

    def test_on_error_url_is_optional(self, server: Server) -> None:
        url = "https://your-backend.com/calls/error"
        answer = server.active().post("/api/phone-numbers", NUMBER_BODY | {"onErrorUrl": url})
        assert answer.body["phoneNumber"]["onErrorUrl"] == url

    @pytest.mark.parametrize("field", NUMBER_BODY)
    def test_what_is_required(self, server: Server, field: str) -> None:
        body = {name: value for name, value in NUMBER_BODY.items() if name != field}
        answer = server.active().post("/api/phone-numbers", body)
        answer.is_error("registerPhoneNumber", 400, "invalid_request", field)

    @pytest.mark.parametrize("number", ["5551234567", "+445551234567", "+1555123456", 15551234567])
    def test_it_is_a_us_number_in_e164(self, server: Server, number: Any) -> None:
        answer = server.active().post("/api/phone-numbers", NUMBER_BODY | {"phoneNumber": number})
        answer.is_error("registerPhoneNumber", 400, "invalid_request", "phoneNumber")

    @pytest.mark.parametrize("field", ["onCallStartUrl", "onCallEndUrl", "onErrorUrl"])
    @pytest.mark.parametrize("url", NO_CALLBACK_URLS)
    def test_callbacks_go_to_public_https(self, server: Server, field: str, url: str) -> None:
        answer = server.active().post("/api/phone-numbers", NUMBER_BODY | {field: url})
        answer.is_error("registerPhoneNumber", 400, "invalid_request", field)

    def test_another_accounts_number(self, server: Server) -> None:
        server.with_number()
        answer = server.active("other@company.com").post("/api/phone-numbers", NUMBER_BODY)
        answer.is_error("registerPhoneNumber", 409, "phone_number_taken")

    def test_ones_own_number_again(self, server: Server) -> None:
        answer = server.with_number().post("/api/phone-numbers", NUMBER_BODY)
        answer.is_like("registerPhoneNumber", 200, self.EXAMPLE)

    def test_list(self, server: Server) -> None:
        customer = server.with_number()
        body = customer.get("/api/phone-numbers").is_like(
            "listPhoneNumbers", 200, {"phoneNumbers": [self.EXAMPLE["phoneNumber"]]}
        )
        assert body["phoneNumbers"][0]["phoneNumber"] == NUMBER

    def test_list_of_nothing(self, server: Server) -> None:
        assert server.registered().get("/api/phone-numbers").body == {"phoneNumbers": []}

    def test_remove(self, server: Server) -> None:
        customer = server.with_number()
        (number,) = customer.get("/api/phone-numbers").body["phoneNumbers"]
        path = f"/api/phone-numbers/{number['id']}"
        answer = customer.delete(path)
        assert answer.is_like("removePhoneNumber", 200, {"deleted": True}) == {"deleted": True}
        assert customer.get("/api/phone-numbers").body == {"phoneNumbers": []}
        customer.delete(path).is_error("removePhoneNumber", 404, "not_found")

    def test_somebody_elses(self, server: Server) -> None:
        (number,) = server.with_number().get("/api/phone-numbers").body["phoneNumbers"]
        answer = server.active("other@company.com").delete(f"/api/phone-numbers/{number['id']}")
        answer.is_error("removePhoneNumber", 404, "not_found")


class TestOutbound:
    """POST /api/outbound: the from number must be registered to the account."""

    def test_response(self, server: Server, twilio: Twilio) -> None:
        request = OUTBOUND | {
            "onErrorUrl": "https://your-backend.com/calls/error",
            "metadata": {"customerId": "cust_123"},
            "machineDetection": "Enable",
            "timeout": 30,
        }
        # "Returns the engine response (call SID and status)."
        body = (
            server.with_number()
            .post("/api/outbound", request)
            .is_like("placeCall", 201, {"id": "clx...", "callSid": "CA...", "status": "queued"})
        )
        assert body == {"id": body["id"], "callSid": CALL_SID, "status": "queued"}
        (received,) = twilio.received
        assert received.form["To"] == ["+15559876543"]
        assert received.form["From"] == [NUMBER]
        assert received.form["Timeout"] == ["30"]
        assert received.form["MachineDetection"] == ["Enable"]

    def test_defaults(self, server: Server, twilio: Twilio) -> None:
        assert server.with_number().post("/api/outbound", OUTBOUND).status == 201
        (received,) = twilio.received
        assert received.form["Timeout"] == ["30"]
        assert "MachineDetection" not in received.form

    @pytest.mark.parametrize("field", ["onErrorUrl", "metadata", "machineDetection", "timeout"])
    def test_null_is_the_default(self, server: Server, twilio: Twilio, field: str) -> None:
        assert server.with_number().post("/api/outbound", OUTBOUND | {field: None}).status == 201
        (received,) = twilio.received
        assert received.form["Timeout"] == ["30"]
        assert "MachineDetection" not in received.form

    @pytest.mark.parametrize("field", ["onCallStartUrl", "onCallEndUrl", "onErrorUrl"])
    @pytest.mark.parametrize("url", NO_CALLBACK_URLS)
    def test_callbacks_go_to_public_https(
        self, server: Server, twilio: Twilio, field: str, url: str
    ) -> None:
        answer = server.with_number().post("/api/outbound", OUTBOUND | {field: url})
        answer.is_error("placeCall", 400, "invalid_request", field)
        assert twilio.received == []

    @pytest.mark.parametrize("field", OUTBOUND)
    def test_what_is_required(self, server: Server, field: str) -> None:
        body = {name: value for name, value in OUTBOUND.items() if name != field}
        answer = server.with_number().post("/api/outbound", body)
        answer.is_error("placeCall", 400, "invalid_request", field)

    @pytest.mark.parametrize(
        ("field", "twilios", "allowed", "refused"),
        [
            (
                "machineDetection",
                "MachineDetection",
                ["Enable", "DetectMessageEnd"],
                ["Disable", "enable"],
            ),
            ("timeout", "Timeout", [5, 120], [4, 121, "soon"]),
        ],
    )
    def test_limits(
        self,
        server: Server,
        twilio: Twilio,
        field: str,
        twilios: str,
        allowed: list[Any],
        refused: list[Any],
    ) -> None:
        customer = server.with_number()
        for value in refused:
            answer = customer.post("/api/outbound", OUTBOUND | {field: value})
            answer.is_error("placeCall", 400, "invalid_request", field)
        for number, value in enumerate(allowed):
            twilio.body = call_resource(sid=f"CA{number:032}")
            assert customer.post("/api/outbound", OUTBOUND | {field: value}).status == 201
            assert twilio.received[-1].form[twilios] == [str(value)]

    def test_a_number_that_is_not_ones_own(self, server: Server) -> None:
        answer = server.active().post("/api/outbound", OUTBOUND)
        answer.is_error("placeCall", 403, "phone_number_not_owned")

    def test_a_number_of_somebody_elses(self, server: Server) -> None:
        server.with_number()
        answer = server.active("other@company.com").post("/api/outbound", OUTBOUND)
        answer.is_error("placeCall", 403, "phone_number_not_owned")

    def test_twilio_refuses(self, server: Server, twilio: Twilio) -> None:
        twilio.refuses(401, 20003, "Authenticate")
        answer = server.with_number().post("/api/outbound", OUTBOUND)
        answer.is_error("placeCall", 400, "carrier_rejected")
        assert "20003" in answer.body["error"]

    def test_twilio_is_away(self, server: Server, twilio: Twilio) -> None:
        twilio.status, twilio.body = 503, b""
        answer = server.with_number().post("/api/outbound", OUTBOUND)
        answer.is_error("placeCall", 502, "carrier_unavailable")


class TestUsage:
    """GET /api/usage: call history with cost breakdowns."""

    EXAMPLE = {
        "records": [
            {
                "id": "clx...",
                "callSid": "CA...",
                "callerPhone": "+19805551234",
                "calledNumber": "+15551234567",
                "durationSeconds": 47,
                "costBreakdown": {
                    "platformCost": 0.05,
                    "twilioCost": 0.0129,
                    "openaiCost": 0.018,
                    "totalCost": 0.0809,
                },
                "createdAt": "2026-04-05T...",
            }
        ],
        "total": 142,
        "limit": 50,
        "offset": 0,
    }

    def test_response(self, server: Server) -> None:
        customer = server.active()
        record(seconds=47)
        body = customer.get("/api/usage").is_like("listUsage", 200, self.EXAMPLE)
        (call,) = body["records"]
        assert (call["callerPhone"], call["calledNumber"]) == ("+19805551234", NUMBER)
        assert (call["durationSeconds"], body["total"]) == (47, 1)
        assert call["costBreakdown"] == self.EXAMPLE["records"][0]["costBreakdown"]  # type: ignore[index]
        assert TIME.fullmatch(call["createdAt"])

    def test_paging(self, server: Server) -> None:
        customer = server.active()
        for _ in range(142):
            record(seconds=1)
        for query, limit, offset, found in (
            ("", 50, 0, 50),
            ("?limit=10", 10, 0, 10),
            ("?limit=100", 100, 0, 100),
            ("?limit=101", 100, 0, 100),  # "Max 100"
            ("?offset=140", 50, 140, 2),
            ("?limit=1&offset=142", 1, 142, 0),
        ):
            body = customer.get(f"/api/usage{query}").body
            assert (body["limit"], body["offset"], body["total"]) == (limit, offset, 142), query
            assert len(body["records"]) == found, query

    @pytest.mark.parametrize("field", ["limit", "offset"])
    @pytest.mark.parametrize("value", ["-1", "ten", "1.5", ""])
    def test_what_is_no_number(self, server: Server, field: str, value: str) -> None:
        answer = server.registered().get(f"/api/usage?{field}={value}")
        answer.is_error("listUsage", 400, "invalid_request", field)

    def test_somebody_elses(self, server: Server) -> None:
        server.active()
        record(seconds=47)
        body = server.active("other@company.com").get("/api/usage").body
        assert (body["records"], body["total"]) == ([], 0)


class TestCurrentUsage:
    """GET /api/usage/current: current month and all-time summary."""

    EXAMPLE = {
        "currentMonth": {"calls": 23, "minutes": 47, "estimatedCost": 2.35},
        "allTime": {"calls": 142, "minutes": 310},
        "perMinuteRate": 0.05,
        "monthlyBase": 5,
    }

    def test_response(self, server: Server) -> None:
        customer = server.active()
        record_the_reference()
        answer = customer.get("/api/usage/current")
        assert answer.is_like("getCurrentUsage", 200, self.EXAMPLE) == self.EXAMPLE

    def test_before_the_first_call(self, server: Server) -> None:
        body = server.registered().get("/api/usage/current").body
        assert body == self.EXAMPLE | {
            "currentMonth": {"calls": 0, "minutes": 0, "estimatedCost": 0},
            "allTime": {"calls": 0, "minutes": 0},
        }


_calls = count()


def record(*, seconds: int, at: datetime | None = None, email: str = EMAIL) -> None:
    """Write down an ended call of the account's."""
    account = Account.objects.get(email=email)
    with transaction.atomic():
        usage_record_create(
            account_id=account.id,
            call_sid=f"CA{next(_calls):032}",
            direction="inbound",
            caller_phone="+19805551234",
            called_number=NUMBER,
            duration_seconds=seconds,
            billed_seconds=seconds,
            twilio_cost=Decimal("0.0129"),
            openai_cost=Decimal("0.018"),
            ended_at=at or timezone.now(),
        )


def record_the_reference() -> None:
    """The calls of the reference's numbers: 23 of 47 minutes this month, 142 of 310 in all."""
    now = timezone.now()
    last_month = datetime(now.year, now.month, 1, tzinfo=UTC) - timedelta(seconds=1)
    for _ in range(22):
        record(seconds=61, at=now)  # two minutes: each call is rounded up
    record(seconds=3 * 60, at=now)
    for _ in range(118):
        record(seconds=2 * 60, at=last_month)
    record(seconds=27 * 60, at=last_month)


@pytest.mark.usefixtures("shop")
class TestBilling:
    """/api/billing: the portal and the subscription; and how one comes to have them."""

    SUBSCRIPTION = {
        "status": "ACTIVE",
        "monthlyBase": 5,
        "perMinuteRate": 0.05,
        "totalCalls": 142,
        "totalMinutes": 310,
        "hasPaymentMethod": True,
    }
    URL = {"url": "https://billing.stripe.com/p/session/..."}

    def test_portal(self, server: Server) -> None:
        customer = server.registered()
        pay(customer)
        body = customer.post("/api/billing/portal").is_like("openBillingPortal", 200, self.URL)
        portal = requests.get(server.page(body["url"]), timeout=20)
        assert portal.status_code == 200
        assert EMAIL in portal.text

    def test_subscription(self, server: Server) -> None:
        customer = server.registered()
        pay(customer)
        record_the_reference()
        answer = customer.get("/api/billing/subscription")
        body = answer.is_like("getSubscription", 200, self.SUBSCRIPTION)
        assert body == self.SUBSCRIPTION

    def test_subscription_before_it_is_paid(self, server: Server) -> None:
        body = server.registered().get("/api/billing/subscription").body
        assert body == self.SUBSCRIPTION | {
            "status": "INACTIVE",
            "totalCalls": 0,
            "totalMinutes": 0,
            "hasPaymentMethod": False,
        }

    def test_checkout(self, server: Server) -> None:
        customer = server.registered()
        answer = customer.post("/api/billing/checkout")
        answer.is_like("openCheckout", 200, self.URL)
        pay(customer)
        answer = customer.post("/api/billing/checkout")
        answer.is_error("openCheckout", 409, "already_subscribed")

    LINE = {
        "kind": "base_fee",
        "description": "Months ...",
        "quantity": 1,
        "amount": 5,
        "periodStart": "2026-05-01T...",
        "periodEnd": "2026-06-01T...",
    }

    def test_invoices(self, server: Server) -> None:
        customer = server.registered()
        assert customer.get("/api/billing/invoices").body == {"invoices": []}
        pay(customer)
        body = customer.get("/api/billing/invoices").is_like(
            "listInvoices",
            200,
            {
                "invoices": [
                    {
                        "id": "in_...",
                        "number": "A1B2C3D4-0001",
                        "periodStart": "2026-04-01T...",
                        "periodEnd": "2026-05-01T...",
                        "amount": 5,
                        "currency": "usd",
                        "status": "paid",
                        "hostedUrl": "https://invoice.stripe.com/i/...",
                        "createdAt": "2026-04-01T...",
                        "lines": [self.LINE],
                    }
                ]
            },
        )
        (invoice,) = body["invoices"]
        assert (invoice["amount"], invoice["currency"], invoice["status"]) == (5, "usd", "paid")

    def test_the_upcoming_invoice(self, server: Server) -> None:
        customer = server.registered()
        path = "/api/billing/invoices/upcoming"
        customer.get(path).is_error("getUpcomingInvoice", 404, "no_upcoming_invoice")
        pay(customer)
        body = customer.get(path).is_like(
            "getUpcomingInvoice",
            200,
            {
                "periodStart": "2026-05-01T...",
                "periodEnd": "2026-06-01T...",
                "amount": 5,
                "currency": "usd",
                "lines": [self.LINE] * 2,
            },
        )
        assert body["amount"] == 5
        assert [(line["quantity"], line["amount"]) for line in body["lines"]] == [(1, 5), (0, 0)]

    def test_the_spending_limit(self, server: Server) -> None:
        customer = server.registered()
        path = "/api/billing/spending-limit"
        none = {"monthlyLimit": None, "currentMonthSpent": 0, "isReached": False}
        assert customer.get(path).is_like("getSpendingLimit", 200, none) == none
        limit = none | {"monthlyLimit": 25.5}
        answer = customer.ask("PUT", path, {"monthlyLimit": 25.5})
        assert answer.is_like("setSpendingLimit", 200, limit) == limit
        assert customer.get(path).is_like("getSpendingLimit", 200, limit) == limit
        assert customer.ask("PUT", path, {"monthlyLimit": None}).body == none
        for body in (
            {},
            {"monthlyLimit": 0},
            {"monthlyLimit": "5"},
            {"monthlyLimit": 0.001},
            {"monthlyLimit": 1_000_001},
            {"monthlyLimit": 1e308},
            {"monthlyLimit": 5e-324},
        ):
            answer = customer.ask("PUT", path, body)
            answer.is_error("setSpendingLimit", 400, "invalid_request", "monthlyLimit")

    def test_stripe_is_away(self, server: Server) -> None:
        customer = server.registered()
        fault = steering.fail(Fault.Kind.BROKEN)
        for operation, method, path in (
            ("openBillingPortal", "POST", "/api/billing/portal"),
            ("openCheckout", "POST", "/api/billing/checkout"),
        ):
            customer.ask(method, path).is_error(operation, 502, "payments_unavailable")
        fault.delete()
        assert customer.post("/api/billing/portal").status == 200


def pay(customer: Server) -> None:
    """Pay on the checkout page, and let a worker look at what has become of it."""
    testing.pay(customer.post("/api/billing/checkout").body["url"])
    accounts = Account.objects.filter(email=customer.get("/api/account").body["account"]["email"])
    StatusCheck.objects.filter(account__in=accounts).mark("payment")
    status_check(accounts.get().id)


class TestErrorCodes:
    """The table of error codes, as far as it was not met above."""

    @pytest.mark.parametrize(
        ("method", "path", "operation", "body"),
        [
            ("POST", "/api/phone-numbers", "registerPhoneNumber", NUMBER_BODY),
            ("DELETE", "/api/phone-numbers/clx", "removePhoneNumber", None),
            ("POST", "/api/outbound", "placeCall", OUTBOUND),
        ],
    )
    @pytest.mark.parametrize(
        ("account_status", "status", "code"),
        [("INACTIVE", 402, "payment_required"), ("SUSPENDED", 403, "account_suspended")],
    )
    def test_402_and_403(
        self,
        server: Server,
        method: str,
        path: str,
        operation: str,
        body: Any,
        account_status: str,
        status: int,
        code: str,
    ) -> None:
        customer = server.registered(status=account_status)
        customer.ask(method, path, body).is_error(operation, status, code)

    def test_402_at_the_spending_limit(self, server: Server) -> None:
        customer = server.with_number()
        customer.ask("PUT", "/api/billing/spending-limit", {"monthlyLimit": 0.05})
        assert customer.post("/api/outbound", OUTBOUND).status == 201
        record(seconds=60)
        answer = customer.post("/api/outbound", OUTBOUND)
        answer.is_error("placeCall", 402, "spending_limit_reached")

    def test_400_for_what_is_no_json(self, server: Server) -> None:
        headers = {"Content-Type": "application/json"}
        response = requests.post(
            f"{server.url}/api/auth/login", data=b"{", headers=headers, timeout=20
        )
        Answer(response).is_error("logIn", 400, "invalid_json", "body")

    def test_404_on_an_unknown_path(self, server: Server) -> None:
        answer = server.get("/api/nothing")
        assert (answer.status, answer.body["code"]) == (404, "not_found")

    def test_500(self, server: Server) -> None:
        customer = server.registered()
        with without_table("usage_totalusage"):
            customer.get("/api/usage/current").is_error("getCurrentUsage", 500, "internal_error")
        assert customer.get("/api/usage/current").status == 200


@contextmanager
def without_table(name: str) -> Iterator[None]:
    """Take a table away from the server."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO taken_away")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE taken_away RENAME TO {name}")
