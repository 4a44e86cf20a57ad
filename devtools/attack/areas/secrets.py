"""Secrets: whatever was used in this run, by whomever and however oddly, is in no log."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

from devtools.attack.cast import make_line
from devtools.attack.field import Field, token_of
from devtools.attack.report import Notes
from devtools.attack.web import Browser

NEEDS_NETWORK = False

# What mail programs and people put behind an address, or leave out.
_ENDS = ("", "/", ".", ",", ")", ">", "_", "x", "%20", "%0a", "=", "-", "]", "&x=1", "?x=1", "//")
_LINK = re.compile(r"https://app\.example\.com(/[^\s]+)")


async def attack(field: Field, notes: Notes) -> None:
    await _misuse_mailed_links(field)
    if field.is_apart:
        await _misuse_voice_links(field)
    await _show_credentials(field)
    await asyncio.sleep(1)
    read_logs(field, notes)


async def _misuse_mailed_links(field: Field) -> None:
    """Open links that hold still, with something behind them."""
    alice, bob = field.people["alice"], field.people["bob"]
    await Browser(field.web).post("/password/reset", {"email": alice.email})
    await field.mailbox.wait_for(alice.email, 2, within=10)
    anybody, another = Browser(field.web), await field.browser(bob)
    for mail in field.mailbox.to(alice.email):
        for path in _LINK.findall(mail.text):
            field.canaries.add(*_secret_parts(path))
            for end in _ENDS:
                for browser in (anybody, another):
                    await browser.get(path + end)
                    await browser.post(path + end, {})


async def _misuse_voice_links(field: Field) -> None:
    line = await make_line(field, field.people["alice"])
    call, order = await field.placed_call(line)
    urls = [*call.links.values(), order["Url"], order["StatusCallback"]]
    for url in urls:
        token = token_of(url)
        field.canaries.add(token, *_secret_parts(token))
        for purpose in ("answer", "status", "stream", "after", "nothing"):
            for end in _ENDS[::2]:
                path = f"/voice/{purpose}/{token}{end}"
                await field.engine.ask("GET", path)
                await field.engine.ask("POST", path, form={"CallSid": "x"})
                await field.web.ask("POST", path, form={"CallSid": call.call_sid})
    await call.hang_up()


async def _show_credentials(field: Field) -> None:
    """Put credentials where they do not belong: addresses, other headers, other fields."""
    people = [field.people["alice"], field.people["bob"]]
    for secret in [*(p.key for p in people), *(p.token for p in people)]:
        for path in (f"/{secret}", f"/api/{secret}", f"/docs/{secret}", f"/api/calls/{secret}"):
            for end in ("", "_", "/", "%00"):
                await field.web.ask("GET", path + end, token=secret)
        for name in ("X-Request-Id", "Cookie", "Host", "Referer", "Origin", "User-Agent"):
            headers = {name: secret}
            await field.web.ask("POST", "/login", headers=headers, form={"a": secret})
        await field.web.ask("GET", f"/login?next={quote(secret)}")
        await field.web.ask("POST", "/api/auth/login", raw=secret.encode())
    for person in people:
        body = {"email": person.password, "password": person.password}
        await field.web.ask("POST", "/api/auth/login", body=body)


def _secret_parts(path: str) -> list[str]:
    """Return what makes a link secret: its signature, and the token with it."""
    token = path.rstrip("/").rpartition("/")[2]
    parts = re.split(r"[.:]", token)
    return [token, parts[-1], token.rpartition("-")[2]]


def read_logs(field: Field, notes: Notes) -> None:
    """Look for every secret of the run in every line that was logged."""
    environment = field.product.environment
    field.canaries.add(
        environment["SECRET_KEY"],
        environment["STRIPE_SECRET_KEY"],
        environment["STRIPE_WEBHOOK_SECRET"],
    )
    lines = field.product.log_lines()
    notes.expect("There are logs to be read.", bool(lines))
    text = "\n".join(line for _, line in lines)
    for secret in sorted(field.canaries):
        if notes.expect(
            "No secret is in a log.", secret not in text, sent=_masked(secret), came=""
        ):
            continue
        name, line = next((name, line) for name, line in lines if secret in line)
        finding = field.report.findings.pop()
        notes.report.findings.append(
            type(finding)(
                finding.area, finding.case, finding.sent, f"{name}: {_around(line, secret)}"
            )
        )


def _masked(secret: str) -> str:
    return f"{secret[:4]}… ({len(secret)} characters)"


def _around(line: str, secret: str) -> str:
    """Return the line's part before a secret, which need not be told twice."""
    before = line[: line.index(secret)]
    return f"…{before[-100:]}[it]"
