"""The same poisons in every field of every door over HTTP: never a 5xx, and nothing is raised.

The doors are not listed but looked for: the API's operations in its document, the product's
addresses, the forms in its pages, the lists and filters of the admin. What comes in over sockets
and from other services is in ``telephony/tests/wire/test_poisons.py`` and
``billing/tests/test_poisons.py``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import product
from typing import Any
from urllib.parse import quote, urlencode
from wsgiref.util import setup_testing_defaults

import pytest
import stripe
import yaml
from asgiref.testing import ApplicationCommunicator
from django.conf import settings as django_settings
from django.contrib import admin
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import Account
from accounts.services import api_key_create
from config.asgi import django as asgi
from config.wsgi import application
from core.schema import document
from core.tests.poisons import PEOPLES, POISONS, Poison, dealt
from telephony.callbacks import outbox
from telephony.models import Call, CallbackDelivery, PhoneNumber
from telephony.services import call_note
from telephony.tests.test_phone_numbers_api import numbers_at_twilio
from telephony.tests.twilio_stand_in import Received, call_resource, running_twilio

pytestmark = pytest.mark.django_db

NOWHERE = "http://127.0.0.1:9/calls"
# Stripe, which nobody plays here, is down: what says so, in an answer and in the log.
OUTAGES = {"payments_unavailable", "plan_not_at_stripe"}


@pytest.fixture(autouse=True)
def nobody_else(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Twilio takes every call and has no numbers; Stripe is down, which is found out at once."""
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    settings.LOGIN_FAILURES_PER_EMAIL = settings.REGISTRATIONS_PER_ADDRESS = 10**6
    with running_twilio() as twilio:

        def asked_for(received: Received) -> None:
            of_numbers = "/IncomingPhoneNumbers" in received.path
            twilio.status = 200 if of_numbers else 201
            twilio.body = numbers_at_twilio() if of_numbers else call_resource()

        twilio.acts = asked_for
        settings.TWILIO_API_URL = twilio.url
        yield


@pytest.fixture
def things(alice: Account, operator: Account) -> dict[str, str]:
    """Alice's objects, by the names of the paths' parameters."""
    number = PhoneNumber.objects.create(
        account=alice,
        phone_number="+15551234567",
        on_call_start_url=NOWHERE,
        on_call_end_url=NOWHERE,
    )
    call = Call.objects.create(
        account=alice,
        call_sid="CA" + "1" * 32,
        direction="inbound",
        status="in-progress",
        caller_phone="+19805551234",
        called_number=number.phone_number,
        on_call_start_url=NOWHERE,
        on_call_end_url=NOWHERE,
        on_error_url=NOWHERE,
    )
    call_note(call, "received")
    outbox.enqueue_error(call, code="test", message="test")
    return {
        "number": number.id,
        "call": call.id,
        "delivery": CallbackDelivery.objects.get().id,
        "key": api_key_create(account=alice).api_key.id,
        "account": alice.id,
    }


@pytest.fixture
def door(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., HttpResponse]]:
    """Send a request; what it changes is undone, and what it raised is told."""
    found: list[str] = []

    def send(client: Client, method: str, path: str, **options: Any) -> HttpResponse:
        client.raise_request_exception = False
        caplog.clear()
        with transaction.atomic():
            response = client.generic(method, path, **options)
            body = b"".join(response) if response.streaming else response.content
            transaction.set_rollback(True)
        problem = _problem(path, response, body, caplog.records)
        if problem:
            what = str(options.get("data", ""))[:80]
            found.append(f"{method} {path[:120]} {what}: {problem}")
        return response

    yield send
    assert not found, "\n".join([f"{len(found)} in all:", *found[:40]])


def _problem(path: str, response: HttpResponse, body: bytes, records: Any) -> str:
    is_api = path.startswith("/api/")
    error = _error(body) if is_api and response.status_code >= 400 else {}
    if error.get("code") in OUTAGES:
        return ""
    if response.status_code >= 500:
        return f"{response.status_code} {error.get('error', '')}"
    if raised := [record.getMessage() for record in records if _is_raised(record)]:
        return f"raised {raised[0]}"
    if is_api and response.status_code >= 400 and not {"error", "code", "requestId"} <= set(error):
        return f"no error in the API's shape: {body[:80]!r}"
    if is_api and response.status_code == 400 and not error.get("fields"):
        return f"names no field: {body[:80]!r}"
    return ""


def _is_raised(record: logging.LogRecord) -> bool:
    """Return True for an unexpected failure: Django logs expected errors too."""
    event = record.msg.get("event") if isinstance(record.msg, dict) else ""
    is_refusal = record.name.startswith("django.security")
    return record.levelno >= logging.ERROR and not is_refusal and event not in OUTAGES


def _error(body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)
    except ValueError:
        return {}
    return error if isinstance(error, dict) else {}


class TestTheApi:
    """Every operation of the document, with a poison in one place and good values in all others."""

    METHODS = ("get", "post", "put", "patch", "delete")

    def test_it_takes_or_refuses_it(
        self, things: dict[str, str], alice_api: Any, door: Any
    ) -> None:
        for poison, (method, path, operation) in dealt(operations()):
            good = path_of(path, things)
            for name in re.findall(r"{(\w+)}", path):
                door(alice_api, method, path_of(path, things | {name: poison.encoded}))
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    door(alice_api, method, f"{good}?{parameter['name']}={poison.encoded}")
                    door(alice_api, method, f"{good}?{poison.encoded}=1")
            for body in bodies(operation, poison):
                door(alice_api, method, good, data=body, content_type="application/json")

    def test_headers(self, things: dict[str, str], alice: Account, door: Any) -> None:
        key = api_key_create(account=alice).plain
        for poison, name in dealt(HEADERS):
            text = poison.text.encode(errors="replace").decode("latin-1")
            if name != "Content-Type":  # the server refuses them before us
                text = re.sub(r"[\r\n\0]", "", text)
            headers = {"Authorization": f"Bearer {key}", name: text}
            if name != "Host":  # which Django refuses without naming a field
                door(Client(headers=headers), "GET", "/api/calls")
            door(Client(headers=headers), "GET", "/login")
            door(Client(headers=headers), "GET", "/static/mark.svg")

    def test_what_people_write_passes_unchanged(self, alice_api: Any) -> None:
        for text in PEOPLES:
            response = alice_api.post("/api/api-keys", {"label": text}, format="json")
            assert response.status_code == 201
            assert response.json()["label"] == text


HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Content-Type",
    "Cookie",
    "HX-Current-URL",
    "HX-Request",
    "Host",
    "Idempotency-Key",
    "If-Modified-Since",
    "If-None-Match",
    "Origin",
    "Range",
    "Referer",
    "User-Agent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Request-Id",
)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method in TestTheApi.METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def path_of(path: str, values: dict[str, str]) -> str:
    known = {"id": values.get("id") or values[_owner_of(path)]}
    return re.sub(r"{(\w+)}", lambda found: known[found[1]], path)


def _owner_of(path: str) -> str:
    owners = {"/api/api-keys": "key", "/api/phone-numbers": "number", "/api/calls": "call"}
    return next((owner for at, owner in owners.items() if path.startswith(at)), "delivery")


EXAMPLES = yaml.safe_load(
    (django_settings.BASE_DIR / "docs" / "openapi" / "examples.yaml").read_text(encoding="utf-8")
)


def bodies(operation: dict[str, Any], poison: Poison) -> Iterator[str]:
    """Yield bodies with the poison in one of the fields, as a name, and as all of the body."""
    if "requestBody" not in operation:
        return
    good = EXAMPLES[operation["operationId"]]["request"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    names = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
    yield poison.json
    for name in names:
        rest = "".join(f', "{key}": {json.dumps(good[key])}' for key in good if key != name)
        yield f'{{"{name}": {poison.json}{rest}}}'
        if name == "metadata":
            yield f'{{"{name}": [{{"a": {poison.json}}}]{rest}}}'


class TestPages:
    """Every address that is none of the API's, as Alice and as Olga, who may do everything."""

    def test_addresses(
        self, things: dict[str, str], alice: Account, operator: Account, door: Any
    ) -> None:
        alices, olgas = browser_of(alice), browser_of(operator)
        for poison, route in dealt(routes_with_parameters()):
            path = PARAMETER.sub(poison.encoded, route)
            door(alices, "GET", path)
            door(alices, "POST", path)
        for poison, route in dealt(admins_routes()):
            door(olgas, "GET", PARAMETER.sub(poison.encoded, route))
            door(olgas, "GET", PARAMETER.sub(_as_the_admin_writes(poison.text), route))

    def test_queries(self, things: dict[str, str], alice: Account, door: Any) -> None:
        browser = browser_of(alice)
        for poison, (path, names) in dealt(QUERIES.items()):
            for name in names:
                door(browser, "GET", f"{path.format(**things)}?{name}={poison.encoded}")

    def test_cookies(self, alice: Account, door: Any) -> None:
        for poison, name in product(POISONS, ("sessionid", "csrftoken", "messages")):
            for value in (poison.text, f"\\000{'a' * 40}", f"\\033\\ {'a' * 40}", "a" * 40):
                text = re.sub(r"[\r\n]", "", value).encode(errors="replace").decode("latin-1")
                door(Client(headers={"Cookie": f'{name}="{text}"'}), "GET", "/dashboard")

    def test_each_page_has_its_forms_found(
        self, things: dict[str, str], alice: Account, operator: Account
    ) -> None:
        actions = {form.action for form in forms_of(alice, operator, things)}
        assert {"/login", "/signup", "/password/reset", "/dashboard/keys/new"} <= actions
        assert {
            f"/dashboard/settings/{name}" for name in ("email", "password", "delete")
        } <= actions
        assert any(action.startswith("/admin/accounts/account/") for action in actions)

    def test_forms(
        self, things: dict[str, str], alice: Account, operator: Account, door: Any
    ) -> None:
        forms = forms_of(alice, operator, things)
        fields = [(form, name) for form in forms for name in form.fields if name != CSRF]
        ours = [each for each in fields if not each[0].is_admins]
        admins = [each for each in fields if each[0].is_admins]
        for poison, (form, name) in [*dealt(ours), *dealt(admins)]:
            rest = urlencode({n: v for n, v in form.fields.items() if n != name})
            data = f"{rest}&{quote(name)}={poison.encoded}"
            kind = "application/x-www-form-urlencoded"
            door(form.browser, "POST", form.action, data=data, content_type=kind)


CONTENT_TYPES = (
    "text/html; charset=base64",
    "text/html; charset=utf-16",
    "application/x-www-form-urlencoded; charset=unicode_escape",
    "multipart/form-data; boundary=b; charset=punycode",
    "application/json; charset=no-such",
    "text/plain; charset*=utf-8''%00",
    "text/plain; x*=no-such'en'%41",
)


class TestContentTypes:
    """Django reads them before there is any middleware, so that the application itself is asked."""

    @pytest.mark.parametrize("content_type", CONTENT_TYPES)
    @pytest.mark.parametrize("path", ["/login", "/api/calls", "/voice", "/webhooks/stripe"])
    def test_what_is_not_utf8_is_refused(self, path: str, content_type: str) -> None:
        statuses: list[str] = []
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "QUERY_STRING": "a=b",
            "CONTENT_TYPE": content_type,
        }
        setup_testing_defaults(environ)
        body = application(environ, lambda status, headers: statuses.append(status))
        assert b"Content-Type: Send text in UTF-8" in b"".join(body)
        assert statuses == ["400 Bad Request"]

    @pytest.mark.parametrize("content_type", CONTENT_TYPES)
    async def test_the_engine_refuses_it_as_well(self, content_type: str) -> None:
        communicator = ApplicationCommunicator(
            asgi,
            {
                "type": "http",
                "method": "POST",
                "path": "/voice",
                "query_string": b"a=b",
                "headers": [(b"content-type", content_type.encode())],
            },
        )
        await communicator.send_input({"type": "http.request", "body": b""})
        assert (await communicator.receive_output())["status"] == 400
        await communicator.wait()

    @pytest.mark.parametrize("charset", ["utf-8", "UTF-8"])
    def test_utf8_is_taken(self, charset: str) -> None:
        kind = f"application/x-www-form-urlencoded; charset={charset}"
        assert Client().post("/login", "email=a", content_type=kind).status_code == 400
        assert (
            b"Enter a valid email" in Client().post("/login", "email=a", content_type=kind).content
        )


# Django's own warning of a date without a time in the address of a list.
@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
class TestTheAdmin:
    def test_lists(self, things: dict[str, str], operator: Account, door: Any) -> None:
        browser = browser_of(operator)
        for poison, (path, name) in dealt(lists()):
            door(browser, "GET", f"{path}?{name}={poison.encoded}")

    def test_what_a_filter_refuses_is_said(self, operator: Account) -> None:
        response = browser_of(operator).get("/admin/telephony/call/?status__exact=%00")
        assert response.status_code == 400
        assert b"status__exact: Remove control characters" in response.content


CSRF = "csrfmiddlewaretoken"
PARAMETER = re.compile(r"<[^>]*>|\(\?P<\w+>[^)]*\)")
NOT_PAGES = ("/api/", "/voice", "/webhooks/", "/admin/")

QUERIES = {
    "/": ("x",),
    "/login": ("next",),
    "/signup": ("next",),
    "/docs": ("x",),
    "/docs/getting-started": ("x",),
    "/api/schema": ("format", "lang", "version"),
    "/dashboard": ("x",),
    "/dashboard/calls": ("number", "direction", "outcome", "since", "until", "before", "after"),
    "/dashboard/calls.csv": ("number", "direction", "outcome", "since", "until"),
    "/dashboard/calls/{call}": ("live",),
    "/admin/autocomplete/": ("term", "app_label", "model_name", "field_name", "q", "p"),
    "/admin/": ("next", "x"),
}


def browser_of(account: Account) -> Client:
    client = Client()
    client.force_login(account)
    return client


def _as_the_admin_writes(text: str) -> str:
    return "".join(f"_{ord(each):02X}" for each in text[:40])


def routes_with_parameters() -> list[str]:
    """Return the routes of all pages but the admin's, from the root."""
    found = {f"/{route}" for route in _routes(get_resolver())}
    return sorted(
        each for each in found if PARAMETER.search(each) and not each.startswith(NOT_PAGES)
    )


def admins_routes() -> list[str]:
    found = {f"/{route}" for route in _routes(get_resolver())}
    return sorted(each for each in found if PARAMETER.search(each) and each.startswith("/admin/"))


def _routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern).strip("^$")
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from _routes(entry, route)


def lists() -> Iterator[tuple[str, str]]:
    """Yield each list of the admin with each name that its address may have: filters, search, …"""
    for model, page in admin.site._registry.items():
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        names = ["q", "p", "o", "_to_field", "pk__exact", "pk__in"]
        for each in page.list_filter:
            if isinstance(each, str):
                names += [f"{each}__{how}" for how in ("exact", "in", "gte", "range")]
            else:
                names.append(each.parameter_name)
        yield from ((path, name) for name in names)


@dataclass
class Form:
    """A form of a page, with what is filled in already."""

    browser: Client
    action: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def is_admins(self) -> bool:
        return self.action.startswith("/admin/")


class FormsOf(HTMLParser):
    def __init__(self, browser: Client, path: str, html: str) -> None:
        super().__init__()
        self._browser, self._path = browser, path
        self.found: list[Form] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and values.get("method", "").lower() == "post":
            self.found.append(Form(self._browser, values.get("action") or self._path))
        elif tag == "button" and "hx-post" in values:
            self.found.append(Form(self._browser, values["hx-post"]))
        elif tag in ("input", "select", "textarea", "button") and self.found and "name" in values:
            self.found[-1].fields.setdefault(values["name"], values.get("value", ""))


def forms_of(alice: Account, operator: Account, things: dict[str, str]) -> list[Form]:
    """Return the forms of all pages that can be reached without a link of a mail, one of a kind."""
    found: dict[str, Form] = {}
    for browser, paths in (
        (Client(), ["/login", "/signup", "/password/reset"]),
        (browser_of(alice), alices_pages(things)),
        (browser_of(operator), operators_pages(things)),
    ):
        for path in paths:
            response = browser.get(path)
            assert response.status_code == 200, path
            for form in FormsOf(browser, path.partition("?")[0], response.content.decode()).found:
                found.setdefault(form.action, form).fields |= form.fields
    return list(found.values())


def alices_pages(things: dict[str, str]) -> list[str]:
    sections = ["calls", "test-call", "numbers", "numbers/new", "keys", "billing", "settings"]
    own = [f"numbers/{things['number']}", f"calls/{things['call']}"]
    return ["/dashboard", *(f"/dashboard/{section}" for section in sections + own)]


def operators_pages(things: dict[str, str]) -> list[str]:
    account = f"/admin/accounts/account/{things['account']}"
    return [
        *{path for path, _ in lists()},
        "/admin/accounts/account/add/",
        f"{account}/change/",
        f"{account}/password/",
        "/admin/password_change/",
        f"/admin/telephony/phonenumber/{things['number']}/change/",
        "/admin/auth/group/add/",
        f"/operators/impersonate/{things['account']}",
    ]
