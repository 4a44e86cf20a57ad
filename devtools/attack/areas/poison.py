"""Poison: two dozen values in every field of every entry point. None causes a 5xx."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import hmac
import io
import secrets
import time
import unicodedata
from collections.abc import Coroutine, Iterable
from typing import Any
from urllib.parse import quote

import orjson

from devtools.attack import poisons
from devtools.attack.context import Context
from devtools.attack.people import Line, make_line, new_number
from devtools.attack.report import Notes
from devtools.attack.voice import TwilioAccount, new_call_sid, path_of, post, read, ring
from devtools.attack.web import Answer, Browser

NEEDS_NETWORK = False

_AT_ONCE = 6
_LARGE = 2 << 20
_MAY_GROW = 150 << 20


async def attack(context: Context, notes: Notes) -> None:
    carol = context.people["carol"]
    line = await make_line(context, carol)
    await _all(
        *_into_api(context, notes, line),
        *_into_queries(context, notes, line),
        *(() if context.is_short else _into_headers(context, notes)),
        *_into_stripe(context, notes),
    )
    event = b'{"id":"evt_1","type":"invoice.paid","data":{"object":{"customer":"cus_nobody"}}}'
    taken = await _signed_event(context, "/webhooks/stripe", event)
    notes.expect("A Stripe event is accepted.", taken.status == 200, sent=event, came=taken)
    await _into_pages(context, notes, line)
    await _into_admin(context, notes)
    if context.is_apart:
        await _into_voice(context, notes, line)
        other = await make_line(context, context.people["tess"])  # has no calls yet
        await _into_spoken_messages(context, notes, other)
        await _into_spreadsheets(context, notes, other)
    await _large_bodies(context, notes)


async def _all(*attempts: Coroutine[Any, Any, None]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(attempt: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await attempt

    await asyncio.gather(*map(one, attempts))


def _holds(notes: Notes, answer: Answer, sent: str, door: str) -> None:
    case = f"Nothing that is sent to {door} makes the product fail."
    notes.expect(case, not answer.is_failure, sent=sent, came=answer)


# The API


def _into_api(context: Context, notes: Notes, line: Line) -> Iterable[Coroutine[Any, Any, None]]:
    for method, path, body in _bodies(line):
        for name in (*body, "somethingElse"):
            for what, poison in poisons.in_json(few=context.is_short):
                raw = _with(body, name, poison)
                yield _send_raw(context, notes, line, method, path, raw, f"{name}: {what}")
        for what, poison in poisons.in_json(few=context.is_short):
            yield _send_raw(context, notes, line, method, path, poison, f"the body: {what}")


def _bodies(line: Line) -> list[tuple[str, str, dict[str, Any]]]:
    order = {
        "from": line.number,
        "to": "+13102201234",
        "twilioAccountSid": line.twilio.sid,
        "twilioAuthToken": line.twilio.token,
        "metadata": {},
        "machineDetection": "Enable",
        "timeout": 30,
        **line.desk.urls(),
    }
    credentials = {"email": "poison@people.example.com", "password": "a long walk"}
    return [
        ("POST", "/api/auth/register", {**credentials, "companyName": ""}),
        ("POST", "/api/auth/login", credentials),
        ("POST", "/api/api-keys", {"label": "poison"}),
        ("POST", "/api/phone-numbers", {"phoneNumber": new_number(), **line.desk.urls()}),
        ("PATCH", f"/api/phone-numbers/{line.id}", {"onErrorUrl": None, "isActive": True}),
        ("POST", "/api/outbound", order),
        ("PUT", "/api/billing/spending-limit", {"monthlyLimit": 25}),
        ("POST", "/api/billing/checkout", {}),
        ("POST", "/api/billing/portal", {}),
    ]


def _with(body: dict[str, Any], name: str, poison: bytes) -> bytes:
    """Return the body as JSON, with raw poison in a field."""
    others = {key: value for key, value in body.items() if key != name}
    if others.get("email"):  # so that nobody is registered twice, or locked out
        others["email"] = f"{secrets.token_hex(6)}@people.example.com"
    rest = orjson.dumps(others)[1:]
    return b'{"' + name.encode() + b'":' + poison + (b"" if rest == b"}" else b",") + rest


async def _send_raw(
    context: Context, notes: Notes, line: Line, method: str, path: str, raw: bytes, what: str
) -> None:
    token = "" if path.startswith("/api/auth") else line.person.key
    answer = await context.web.ask(method, path, raw=raw, token=token)
    # There is no Stripe here, so 502 is correct, and no other 5xx.
    if answer.status == 502 and answer.json and answer.json["code"] == "payments_unavailable":
        return
    _holds(notes, answer, f"{method} {path}, {what}", "the API")


def _into_queries(
    context: Context, notes: Notes, line: Line
) -> Iterable[Coroutine[Any, Any, None]]:
    doors = {
        "/api/calls": ("limit", "offset", "since", "live"),
        "/api/deliveries": ("limit", "offset", "state", "since", "callId", "kind"),
        "/api/usage": ("limit", "offset", "since"),
        "/api/billing/invoices": ("limit", "after"),
        "/docs": ("q",),
    }
    paths = ("/api/calls/{}", "/api/phone-numbers/{}", "/api/deliveries/{}", "/docs/{}", "/{}")
    for what, poison in poisons.as_text(few=context.is_short):
        text = quote(poison[:1500], safe="")
        for door, names in doors.items():
            for name in names:
                yield _ask(context, notes, line, f"{door}?{name}={text}", f"{door}?{name}= {what}")
        for path in paths:
            yield _ask(context, notes, line, path.format(text), f"{path}: {what}")


async def _ask(context: Context, notes: Notes, line: Line, path: str, sent: str) -> None:
    answer = await context.web.ask("GET", path, token=line.person.key)
    if answer.status == 502 and path.startswith("/api/billing"):
        return
    _holds(notes, answer, f"GET {sent}", "an address of the API")


def _into_headers(context: Context, notes: Notes) -> Iterable[Coroutine[Any, Any, None]]:
    names = (
        *("Authorization", "Cookie", "X-Request-Id", "X-Forwarded-For", "Accept", "If-None-Match"),
        *("Accept-Language", "Content-Type", "Idempotency-Key", "Referer", "Origin", "HX-Request"),
        *("HX-Current-URL", "Range", "If-Modified-Since", "X-Forwarded-Proto", "User-Agent"),
    )
    for what, poison in poisons.as_text(few=context.is_short):
        value = _in_header(poison)
        for name in names:
            yield _send_header(context, notes, name, value, what)


def _in_header(text: str) -> str:
    """Remove what HTTP forbids in a header: it cannot get here."""
    return "".join(letter for letter in text[:2000] if letter >= " " and letter != "\x7f")


async def _send_header(context: Context, notes: Notes, name: str, value: str, what: str) -> None:
    carol = context.people["carol"]
    headers = {"Authorization": f"Bearer {carol.key}"} | {name: value}
    for path in ("/api/account", "/dashboard"):
        answer = await context.web.ask("GET", path, headers=headers)
        _holds(notes, answer, f"GET {path}, {name}: {what}", "a header")


# Stripe's webhook, correctly signed, with odd content


def _into_stripe(context: Context, notes: Notes) -> Iterable[Coroutine[Any, Any, None]]:
    types = (b'"customer.updated"', b'"invoice.paid"')
    meter = b'"v1.billing.meter.error_report_triggered"'
    for path, kinds in (("/webhooks/stripe", types), ("/webhooks/stripe/meter", (meter,))):
        for what, poison in poisons.in_json(few=context.is_short):
            for body in _odd_events(kinds[0], poison):
                yield _send_event(context, notes, path, body, what)
        for body in _odd_events(kinds[-1], b'{"object":"customer","id":["a"]}'):
            yield _send_event(context, notes, path, body, "a list as an id")
    for what, text in poisons.as_text(few=context.is_short):
        value = _in_header(text)
        for header in (value, f"t={value},v1=00", f"t=1,v1={value}", f"v1={value}", "t=,v1="):
            yield _send_signature(context, notes, header, what)


def _odd_events(kind: bytes, poison: bytes) -> list[bytes]:
    return [
        poison,
        b"not JSON",
        b"",
        b'{"type":' + poison + b"}",
        b'{"id":"evt_1","type":' + kind + b"}",
        b'{"id":"evt_1","type":' + kind + b',"data":' + poison + b"}",
        b'{"id":"evt_1","type":' + kind + b',"data":{"object":' + poison + b"}}",
        b'{"id":"evt_1","type":' + kind + b',"data":{"object":{"customer":' + poison + b"}}}",
        b'{"id":"evt_1","type":'
        + kind
        + b',"data":{"object":{"customer":{"id":'
        + poison
        + b"}}}}",
        b'{"id":' + poison + b',"type":' + kind + b',"data":{"object":{"customer":"cus_dora"}}}',
        b'{"id":"evt_1","type":' + kind + b',"related_object":' + poison + b"}",
    ]


async def _send_event(context: Context, notes: Notes, path: str, body: bytes, what: str) -> None:
    answer = await _signed_event(context, path, body)
    sent = f"POST {path}, signed: {what}: {body[:80].decode(errors='replace')}"
    _holds(notes, answer, sent, "Stripe's webhook")


async def _signed_event(context: Context, path: str, body: bytes) -> Answer:
    now, key = int(time.time()), context.product.environment["STRIPE_WEBHOOK_SECRET"].encode()
    signature = hmac.new(key, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={now},v1={signature}"}
    return await context.web.ask("POST", path, raw=body, headers=headers)


async def _send_signature(context: Context, notes: Notes, header: str, what: str) -> None:
    headers = {"Stripe-Signature": header}
    answer = await context.web.ask("POST", "/webhooks/stripe", raw=b"{}", headers=headers)
    _holds(notes, answer, f"Stripe-Signature: {what}: {header[:60]}", "Stripe-Signature")


# Pages


async def _into_pages(context: Context, notes: Notes, line: Line) -> None:
    browser, anybody = await context.browser(line.person), Browser(context.web)
    password = line.person.password
    urls = {
        "on_call_start_url": "https://backend.example.com/a",
        "on_call_end_url": "https://backend.example.com/b",
        "on_error_url": "",
    }
    forms: list[tuple[Browser, str, dict[str, str]]] = [
        (anybody, "/signup", {"email": "", "password": "a long walk", "company_name": ""}),
        (anybody, "/login", {"email": "x@example.com", "password": "x", "next": ""}),
        (anybody, "/password/reset", {"email": "x@example.com"}),
        (browser, "/dashboard/numbers/new", {"phone_number": "", **urls}),
        (browser, f"/dashboard/numbers/{line.id}", {"is_active": "on", **urls}),
        (browser, "/dashboard/keys/new", {"label": ""}),
        (browser, "/dashboard/settings/company", {"company_name": ""}),
        (browser, "/dashboard/settings/email", {"email": "", "current_password": password}),
        (browser, "/dashboard/settings/password", {"current_password": "", "password": ""}),
        (browser, "/dashboard/settings/delete", {"email": "", "current_password": ""}),
        (browser, "/dashboard/billing/limit", {"monthly_limit": "", "limit": ""}),
        (browser, "/dashboard/test-call/start", {"call-number": "", "call-caller": ""}),
        (browser, "/dashboard/test-call/check", {"check-number": "", "check-caller": ""}),
        (anybody, "/email/confirm", {"next": ""}),
    ]
    queries = {
        "/dashboard/calls": ("number", "direction", "outcome", "since", "until", "before", "after"),
        "/dashboard/calls.csv": ("number", "direction", "outcome", "since", "until"),
        "/dashboard": ("month", "days", "range"),
        "/login": ("next",),
        "/dashboard/billing": ("after", "page"),
    }
    attempts = []
    for what, poison in poisons.as_text(few=context.is_short):
        for someone, path, form in forms:
            attempts += [
                _post_page(notes, someone, path, form | {name: poison}, f"{name}: {what}")
                for name in form
            ]
        text = quote(poison[:1500], safe="")
        attempts += [
            _get_page(notes, browser, f"{path}?{name}={text}", f"{path}?{name}= {what}")
            for path, names in queries.items()
            for name in names
        ]
        attempts += [
            _get_page(notes, browser, f"{path}{text}", f"{path}: {what}")
            for path in (
                *("/dashboard/calls/", "/dashboard/numbers/", "/email/confirm/", "/dashboard/"),
                *("/password/reset/", f"/password/reset/{line.person.id}/", "/impersonate/"),
            )
        ]
    await _all(*attempts)


async def _post_page(
    notes: Notes, browser: Browser, path: str, form: dict[str, str], what: str
) -> None:
    if path == "/signup":
        form = {**form, "email": form["email"] or f"{secrets.token_hex(6)}@people.example.com"}
    answer = await browser.post(path, form)
    _holds(notes, answer, f"POST {path}, {what}", "a form")


async def _get_page(notes: Notes, browser: Browser, path: str, sent: str) -> None:
    door = "the admin" if path.startswith("/admin") else "a page's address"
    _holds(notes, await browser.get(path), f"GET {sent}", door)


async def _into_admin(context: Context, notes: Notes) -> None:
    """The admin's lists accept any query string."""
    browser = await context.browser(context.people["root"])
    models = (
        *("accounts/account", "telephony/call", "telephony/phonenumber", "usage/usagerecord"),
        *("telephony/callbackdelivery", "billing/meterevent", "billing/statuschange"),
    )
    names = (
        *("q", "o", "p", "e", "status__exact", "is_active__exact", "id__exact", "all"),
        *("account__id__exact", "created_at__gte", "last_login__gte", "account__email"),
    )
    attempts = []
    for what, poison in poisons.as_text(few=context.is_short):
        text = quote(poison[:1500], safe="")
        for model in models[:: 4 if context.is_short else 1]:
            attempts += [
                _get_page(
                    notes, browser, f"/admin/{model}/?{name}={text}", f"{model}?{name}= {what}"
                )
                for name in names
            ]
            attempts.append(
                _get_page(notes, browser, f"/admin/{model}/{text}/change/", f"{model}/{what}/")
            )
    await _all(*attempts)


# Twilio's webhooks, signed


async def _into_voice(context: Context, notes: Notes, line: Line) -> None:
    names = (
        *("CallSid", "AccountSid", "From", "To", "CallStatus", "AnsweredBy", "Direction"),
        *("StreamEvent", "StreamError", "StreamSid", "Digits", "ForwardedFrom", "CallerName"),
    )
    call, order = await context.placed_call(line, frame_every=0.5)
    links = {
        **call.links,
        "status": path_of(order["StatusCallback"]),
        "answer": path_of(order["Url"]),
        "inbound": "/voice",
    }
    attempts = []
    for what, poison in poisons.as_text(few=context.is_short):
        for link, path in links.items():
            for name in names:
                sid = new_call_sid() if link == "inbound" else call.call_sid
                form = {"CallSid": sid, "AccountSid": line.twilio.sid, "CallStatus": "ringing"}
                form |= {"From": "+14152230123", "To": line.number, "StreamEvent": "stream-error"}
                form[name] = poison
                attempts.append(
                    _post_voice(context, notes, path, form, line.twilio, f"{link}, {name}: {what}")
                )
        attempts.append(
            _post_voice(
                context,
                notes,
                f"/voice/after/{quote(poison[:500], safe='')}",
                {"CallSid": call.call_sid},
                line.twilio,
                f"a token: {what}",
            )
        )
    for what, poison in poisons.as_text(few=context.is_short):
        answer = await _answered_by(context, line, poison)
        if answer is not None:
            _holds(notes, answer, f"answer, AnsweredBy: {what}", "Twilio's webhooks")
    await _all(*attempts)
    await call.hang_up()


async def _answered_by(context: Context, line: Line, poison: str) -> Answer | None:
    """Answer a new order, whose backend has not been asked yet."""
    placed = await context.ask_for_call(line)
    if placed.status != 201:
        return None
    order = context.internet.order_of(placed.json["callSid"])
    form = {"CallSid": order["CallSid"], "AccountSid": line.twilio.sid, "AnsweredBy": poison}
    answer = await post(context.engine, path_of(order["Url"]), form, line.twilio)
    ended = {"CallSid": order["CallSid"], "AccountSid": line.twilio.sid, "CallStatus": "completed"}
    await post(context.engine, path_of(order["StatusCallback"]), ended, line.twilio)
    return answer


async def _post_voice(
    context: Context,
    notes: Notes,
    path: str,
    form: dict[str, str],
    account: TwilioAccount,
    what: str,
) -> None:
    answer = await post(context.engine, path, form, account)
    _holds(notes, answer, f"POST {path[:20]}…, {what}", "Twilio's webhooks")


async def _into_spoken_messages(context: Context, notes: Notes, line: Line) -> None:
    """A backend's message becomes valid XML for Twilio."""
    keys = {"twilioAccountSid": line.twilio.sid, "twilioAuthToken": line.twilio.token}
    spoken = [*poisons.AS_TEXT.values(), *(f"a{chr(code)}b" for code in range(32)), "\ufffe", "&<>"]
    for message in spoken[:: 5 if context.is_short else 1]:
        line.desk.answer = {"reject": True, "message": message, **keys}
        answer = await ring(context.engine, to=line.number, account=line.twilio)
        told = read(answer)
        notes.expect(
            "TwiML is well formed, whatever the message.",
            told.is_well_formed and not answer.is_failure,
            sent=repr(message),
            came=answer,
        )


async def _into_spreadsheets(context: Context, notes: Notes, line: Line) -> None:
    """No spreadsheet takes a cell of an export for a formula."""
    line.desk.answer = {"reject": True}
    for start in (
        "=",
        "+",
        "-",
        "@",
        "\uff1d",
        "\uff0b",
        "\uff0d",
        "\uff20",
        "\t=",
        " =",
        "\u3000=",
    ):
        caller = f"{start}cmd|' /c calc'!A1"
        await ring(context.engine, to=line.number, account=line.twilio, caller=caller)
    browser = await context.browser(line.person)
    export = await browser.get("/dashboard/calls.csv")
    for row in csv.reader(io.StringIO(export.text)):
        for cell in row:
            start = unicodedata.normalize("NFKC", cell).strip()[:1]
            is_number = cell.startswith("+") and cell[1:].isdecimal() and cell.isascii()
            notes.expect(
                "No cell of an export is a formula.",
                start not in ("=", "+", "-", "@") or is_number or cell.startswith("'"),
                sent="From of a call",
                came=cell,
            )


# Size


async def _large_bodies(context: Context, notes: Notes) -> None:
    """Oversized bodies are neither kept in memory nor parsed."""
    process = context.product.processes["web"]
    before = process.memory()
    body = b'{"email":"x@example.com","password":"' + b"x" * _LARGE + b'"}'
    bodies = [body] * (5 if context.is_short else 40)
    deep = b"[" * (_LARGE // 2)
    answers = await asyncio.gather(
        *(context.web.ask("POST", "/api/auth/login", raw=each) for each in (*bodies, deep))
    )
    for answer in answers:
        is_said = b"large" in answer.body.lower() or answer.status == 413
        notes.expect(
            "A body of 2 MB is refused for its size.",
            answer.is_refusal and is_said,
            sent="POST /api/auth/login, 2 MB",
            came=answer,
        )
    grown = process.memory() - before
    notes.expect(
        "Large bodies do not stay in memory.",
        grown < _MAY_GROW,
        sent=f"{len(bodies)} bodies of 2 MB",
        came=f"{grown >> 20} MiB more",
    )
