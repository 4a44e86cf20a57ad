"""Accounts: access to other accounts, identity, and what a browser may store."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
from typing import Any

import orjson

from devtools.attack.context import Context
from devtools.attack.people import Line, Person, make_line, register
from devtools.attack.report import Notes
from devtools.attack.web import Answer, Browser, form_actions

NEEDS_NETWORK = False

_OPERATORS_SESSION_S = 12 * 3600
PAGES = ("", "/calls", "/numbers", "/numbers/new", "/keys", "/billing", "/settings", "/test-call")
ENDPOINTS = (
    "/api/account",
    "/api/api-keys",
    "/api/phone-numbers",
    "/api/calls",
    "/api/calls?live=true",
    "/api/deliveries",
    "/api/usage",
    "/api/usage/current",
    "/api/billing/subscription",
    "/api/billing/spending-limit",
    "/api/webhooks/secret",
)


async def attack(context: Context, notes: Notes) -> None:
    await asyncio.gather(
        _reach_what_is_anothers(context, notes),
        _forge_tokens(context, notes),
        _keep_tokens(context, notes),
        _choose_weak_passwords(context, notes),
        _be_an_operator(context, notes),
        _look_at_headers(context, notes),
        _guess_passwords(context, notes),
        _come_from_elsewhere(context, notes),
    )


# Other accounts' data


async def _reach_what_is_anothers(context: Context, notes: Notes) -> None:
    alice, bob = context.people["alice"], context.people["bob"]
    line = await make_line(context, alice)
    things = await _things_of(context, alice, line)
    browser = await context.browser(bob)
    for name, id in list(things.items())[:: 3 if context.is_short else 1]:
        for method, path, body in _requests_about(name, id):
            answer = await context.api(bob, method, path, body)
            _is_hidden(notes, answer, f"{method} {path}", id, line)
        for method, path in _pages_about(name, id):
            form = {"on_call_start_url": "https://backend.example.com/mine", "is_active": "on"}
            page = await (browser.get(path) if method == "GET" else browser.post(path, form))
            _is_hidden(notes, page, f"{method} {path}", id, line)
    unchanged = await context.api(alice, "GET", "/api/phone-numbers")
    notes.expect(
        "Another account's data stays unchanged.",
        line.desk.urls()["onCallStartUrl"] in unchanged.text and line.number in unchanged.text,
        sent="changes to a stranger's number",
        came=unchanged,
    )


async def _things_of(context: Context, person: Person, line: Line) -> dict[str, str]:
    """Return the ids of a person's data; calls and deliveries only if calls can be made."""
    keys = await context.api(person, "GET", "/api/api-keys")
    things = {"account": person.id, "number": line.id, "key": keys.json["apiKeys"][0]["id"]}
    if context.is_apart:
        call = await context.live_call(line)
        await call.hang_up()
        for _ in range(30):
            found = (await context.api(person, "GET", "/api/deliveries")).json["deliveries"]
            if found:
                things["delivery"] = found[0]["id"]
                break
            await asyncio.sleep(0.5)
        told = await context.call(person, call.call_sid)
        things |= {"call": told["id"], "call_sid": call.call_sid}
    return things


def _requests_about(name: str, id: str) -> list[tuple[str, str, Any]]:
    bases = {
        "number": "/api/phone-numbers",
        "key": "/api/api-keys",
        "call": "/api/calls",
        "call_sid": "/api/calls",
        "delivery": "/api/deliveries",
    }
    everywhere = [
        (method, f"{base}/{id}{end}", {"onErrorUrl": None} if method == "PATCH" else None)
        for base in sorted(set(bases.values()))
        for end in ("", "/hangup", "/resend")
        for method in ("GET", "PATCH", "DELETE", "POST", "PUT")
    ]
    spellings = [id.upper(), f"{id}%00", f"%2e%2e/{id}", f"{id}/", f" {id}"]
    base = bases.get(name, "/api/account")
    return everywhere + [("GET", f"{base}/{spelling}", None) for spelling in spellings]


def _pages_about(name: str, id: str) -> list[tuple[str, str]]:
    return [
        *(("GET", f"/dashboard/{room}/{id}") for room in ("calls", "numbers")),
        *(("GET", f"/dashboard/test-call/{id}/{end}") for end in ("live", "give-up")),
        ("POST", f"/dashboard/calls/{id}/hangup"),
        ("POST", f"/dashboard/deliveries/{id}/resend"),
        ("POST", f"/dashboard/numbers/{id}"),
        ("POST", f"/dashboard/numbers/{id}/remove"),
        ("POST", f"/dashboard/keys/{id}/revoke"),
        ("POST", f"/dashboard/test-call/{id}/give-up"),
        ("GET", f"/impersonate/{id}"),
        ("GET", f"/admin/accounts/account/{id}/change/"),
    ]


def _is_hidden(notes: Notes, answer: Answer, sent: str, id: str, line: Line) -> None:
    # A request may be redirected to sign-in; it must reveal and do nothing.
    is_refused = answer.is_refusal or answer.status in (301, 302)
    tells = line.number in answer.text or line.desk.key in answer.text
    notes.expect(
        "Another account's data is not found.", is_refused and not tells, sent=sent, came=answer
    )


# Tokens


async def _forge_tokens(context: Context, notes: Notes) -> None:
    alice = context.people["alice"]
    for credentials in _forged(alice)[:: 6 if context.is_short else 1]:
        for header in (f"Bearer {credentials}", credentials, f"Basic {credentials}"):
            headers = {"Authorization": header}
            answer = await context.web.ask("GET", "/api/account", headers=headers)
            notes.expect(
                "A forged token opens nothing.",
                answer.status in (400, 401),
                sent=header,
                came=answer,
            )


def _forged(person: Person) -> list[str]:
    head, payload, signature = person.token.split(".")
    claims = orjson.loads(base64.urlsafe_b64decode(payload + "=="))
    later = _b64({**claims, "exp": int(time.time()) + 10**9})
    keys = (b"", b"secret", b"changeme", b"django-insecure", b"None")
    unsigned = [f"{_b64({'alg': alg, 'typ': 'JWT'})}.{later}." for alg in ("none", "None", "NONE")]
    signed = [
        f"{head}.{later}.{_raw(hmac.new(key, f'{head}.{later}'.encode(), hashlib.sha256).digest())}"
        for key in keys
    ]
    key = person.key
    return [
        *unsigned,
        *signed,
        f"{head}.{later}.{signature}",
        f"{head}.{payload}.{signature[::-1]}",
        f"{head}.{payload}.",
        person.token[:-1],
        key[:-1],
        key[:-1] + ("a" if key[-1] != "a" else "b"),
        key.swapcase(),
        key[:4] + key[4:][::-1],
        "rtk_" + "0" * 38,
        "' OR 1=1 --",
        "%00",
        "[" * 2000,
    ]


def _b64(thing: Any) -> str:
    return _raw(orjson.dumps(thing))


def _raw(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def _keep_tokens(context: Context, notes: Notes) -> None:
    """A token ends when its owner changes the password or signs out everywhere."""
    keeper = Person("keeper")
    await register(context, keeper)
    browser, elsewhere = await context.browser(keeper), await context.browser(keeper)
    before = keeper.token
    changed = f"{keeper.password} another"
    context.canaries.add(changed)
    form = {"current_password": keeper.password, "password": changed}
    await browser.post("/dashboard/settings/password", form)
    keeper.password = changed
    await _is_out(context, notes, before, elsewhere, "a changed password")
    login = {"email": keeper.email, "password": changed}
    token = (await context.web.ask("POST", "/api/auth/login", body=login)).json["token"]
    context.canaries.add(token)
    elsewhere = await context.browser(keeper)
    path = await _logs_out_everywhere(browser)
    if notes.expect(
        "A customer can sign out everywhere.", bool(path), sent="GET /dashboard/settings"
    ):
        await browser.post(path, {"current_password": changed, "password": changed})
        await _is_out(context, notes, token, elsewhere, "logging out everywhere")


async def _is_out(
    context: Context, notes: Notes, token: str, elsewhere: Browser, after: str
) -> None:
    answer = await context.web.ask("GET", "/api/account", token=token)
    notes.expect(
        f"Tokens end with {after}.", answer.status == 401, sent="an old token", came=answer
    )
    page = await elsewhere.get("/dashboard")
    notes.expect(
        f"Sessions end with {after}.", page.status == 302, sent="an old session", came=page
    )


async def _logs_out_everywhere(browser: Browser) -> str:
    """Return the action of the form that signs out everywhere, whatever its label."""
    for path in ("/dashboard/settings", "/dashboard/security", "/dashboard/keys"):
        page = await browser.get(path)
        for action in form_actions(page.text):
            if action != "/logout" and re.search(r"log-?out|sign-?out|sessions", action):
                return action
    return ""


# Passwords


async def _choose_weak_passwords(context: Context, notes: Notes) -> None:
    company = "Bluebird Plumbing"
    for number, make in enumerate(_WEAK[:: 3 if context.is_short else 1]):
        email = f"weak{number}@people.example.com"
        password = make(email, company)
        body = {"email": email, "password": password, "companyName": company}
        registered = await context.web.ask("POST", "/api/auth/register", body=body)
        form = {"email": f"page{email}", "password": make(f"page{email}", company)}
        page = await Browser(context.web).post("/signup", {**form, "company_name": company})
        for door, came in (("API", registered), ("page", page)):
            notes.expect(
                "A password that is easy to guess is refused.",
                came.is_refusal,
                sent=f"{password!r} by the {door}",
                came=f"{came.status}",
            )


_WEAK = (
    lambda email, company: email,
    lambda email, company: email.upper(),
    lambda email, company: company,
    lambda email, company: company.lower(),
    lambda email, company: " " * 8,
    lambda email, company: "\u3000" * 8,
    lambda email, company: "\t" * 8,
    lambda email, company: "password",
    lambda email, company: "12345678",
    lambda email, company: "short",
    lambda email, company: "iloveyou",
)


async def _guess_passwords(context: Context, notes: Notes) -> None:
    """Guessing is stopped soon, from however many addresses it comes."""
    body = {"email": context.people["erin"].email, "password": "not her password"}
    answers = [await context.web.ask("POST", "/api/auth/login", body=body) for _ in range(12)]
    last = answers[-1]
    notes.expect("Guessing is limited.", last.status == 429, sent="12 passwords", came=last)
    one = "81.1.1.1"
    answers = [
        await context.web.ask(
            "POST", "/api/auth/login", body=body | {"email": f"x{n}@example.com"}, address=one
        )
        for n in range(31)
    ]
    last = answers[-1]
    notes.expect("One address is limited.", last.status == 429, sent="31 logins", came=last)


# Operators


async def _be_an_operator(context: Context, notes: Notes) -> None:
    olga, oscar, root = (context.people[name] for name in ("olga", "oscar", "root"))
    browser = await context.browser(oscar)
    page = await browser.get("/admin/")
    notes.expect(
        "A password alone does not open the admin.",
        page.status != 200 or "/admin/accounts/account/" not in page.text,
        sent="GET /admin/ after a login with email and password",
        came=page.status,
    )
    cookie = browser.set_cookies.get("sessionid")
    seconds = int(cookie["max-age"] or 0) if cookie else 0
    notes.expect(
        "An operator's session lasts 12 hours at most.",
        seconds <= _OPERATORS_SESSION_S,
        sent="a login of an operator",
        came=f"a session of {seconds} s",
    )
    browser = await context.browser(olga)
    for victim in (oscar, root):
        for path in ("password/", "change/"):
            await _change_operator(context, notes, browser, victim, path)
    for path in (
        "/admin/",
        "/admin/accounts/account/",
        f"/admin/accounts/account/{olga.id}/change/",
    ):
        customer = await context.browser(context.people["bob"])
        answer = await customer.get(path)
        notes.expect(
            "A customer cannot open the admin.",
            answer.status in (301, 302, 403, 404),
            sent=f"GET {path}",
            came=answer,
        )


async def _change_operator(
    context: Context, notes: Notes, browser: Browser, victim: Person, path: str
) -> None:
    """An operator who may change accounts cannot set another operator's password or email."""
    before = await _stored(context, victim)
    form = {
        "password1": "taken over by Olga 1",
        "password2": "taken over by Olga 1",
        "usable_password": "true",
        "email": f"taken-{victim.email}",
        "company_name": "Taken",
        "status": "ACTIVE",
        "is_active": "on",
        "is_superuser": "on",
        **{f"api_keys-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL", "MIN_NUM", "MAX_NUM")},
    }
    came = await browser.post(f"/admin/accounts/account/{victim.id}/{path}", form)
    after = await _stored(context, victim)
    notes.expect(
        "An operator cannot take over another operator's account.",
        before == after,
        sent=f"POST /admin/accounts/account/{victim.name}/{path} by an operator",
        came=f"{came.status}, and the account is changed",
    )
    notes.expect(
        "An operator gets an error when changing another operator.",
        came.status in (302, 403, 404),
        sent=f"POST …/{victim.name}/{path}",
        came=came.status,
    )


async def _stored(context: Context, person: Person) -> Any:
    query = (
        "SELECT email, password, is_superuser, is_active, company_name "
        "FROM accounts_account WHERE id = %s"
    )
    return await context.query(query, person.id)


# Caching, and requests from other sites


async def _look_at_headers(context: Context, notes: Notes) -> None:
    alice = context.people["alice"]
    for path in ENDPOINTS:
        for who, answer in (
            ("its owner", await context.api(alice, "GET", path)),
            ("nobody", await context.web.ask("GET", path)),
        ):
            _is_private(notes, answer, f"GET {path} by {who}")
    login = {"email": alice.email, "password": alice.password}
    _is_private(notes, await context.web.ask("POST", "/api/auth/login", body=login), "POST login")
    browser = await context.browser(alice)
    for path in PAGES:
        page = await browser.get(f"/dashboard{path}")
        _is_private(notes, page, f"GET /dashboard{path}")
        _is_guarded(notes, page, f"GET /dashboard{path}")
    for path in ("/", "/login", "/signup", "/password/reset", "/docs", "/nowhere"):
        _is_guarded(notes, await Browser(context.web).get(path), f"GET {path}")


def _is_private(notes: Notes, answer: Answer, sent: str) -> None:
    kept = answer.headers.get("cache-control", "")
    notes.expect(
        "Private responses are not cached.", "no-store" in kept, sent=sent, came=kept or "none"
    )
    for name in ("cross-origin-resource-policy", "x-content-type-options"):
        value = answer.headers.get(name, "")
        notes.expect(f"A private answer has {name}.", bool(value), sent=sent, came=answer.status)


def _is_guarded(notes: Notes, answer: Answer, sent: str) -> None:
    for name in (
        "content-security-policy",
        "permissions-policy",
        "cross-origin-resource-policy",
        "strict-transport-security",
        "x-frame-options",
        "x-content-type-options",
        "referrer-policy",
    ):
        notes.expect(
            f"A page has {name}.", name in answer.headers, sent=sent, came=f"{answer.status}, none"
        )


async def _come_from_elsewhere(context: Context, notes: Notes) -> None:
    """Other hosts, other sites, other origins."""
    for host in (
        "evil.example.net",
        "app.example.com.evil.net",
        "127.0.0.1",
        "",
        "app.example.com:1@x",
    ):
        answer = await context.web.ask("GET", "/login", headers={"Host": host})
        notes.expect(
            "Another host is refused.", answer.status == 400, sent=f"Host: {host}", came=answer
        )
    hosts = {"X-Forwarded-Host": "evil.example.net", "Forwarded": "host=evil.example.net"}
    answer = await context.web.ask("GET", "/dashboard", headers=hosts)
    notes.expect(
        "A forwarded host is ignored.",
        "evil" not in answer.text + answer.headers.get("location", ""),
        sent=hosts,
        came=answer.headers.get("location"),
    )
    browser = await context.browser(context.people["alice"])
    paths = ("/dashboard/keys/new", "/dashboard/settings/delete", "/dashboard/keys/secret")
    for path in paths:
        for headers in ({"Referer": "https://evil.example.net/"}, {"Origin": "https://evil.net"}):
            answer = await browser.post(path, {}, headers=headers)
            notes.expect(
                "Another site cannot submit forms.",
                answer.status == 403,
                sent=f"{path} {headers}",
                came=answer.status,
            )
        answer = await browser.post(path, {"csrfmiddlewaretoken": ""})
        notes.expect(
            "A form needs a CSRF token.", answer.status == 403, sent=path, came=answer.status
        )
    for target in (
        "//evil.net",
        "https://evil.net",
        "/\\evil.net",
        "javascript:alert(1)",
        "///evil.net",
    ):
        someone = Browser(context.web)
        alice = context.people["alice"]
        form = {"email": alice.email, "password": alice.password, "next": target}
        answer = await someone.post(f"/login?next={target}", form)
        leads = answer.headers.get("location", "")
        notes.expect(
            "Sign-in redirects only to our own pages.",
            "evil" not in leads and "script" not in leads,
            sent=target,
            came=leads,
        )
