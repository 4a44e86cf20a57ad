"""Secrets: none that was used in this run, however oddly, is in a log."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

from devtools.attack.context import Context, token_of
from devtools.attack.people import make_line
from devtools.attack.report import Notes
from devtools.attack.web import Browser

NEEDS_NETWORK = False

# What mail programs and people append to a link, or cut off.
_ENDS = ("", "/", ".", ",", ")", ">", "_", "x", "%20", "%0a", "=", "-", "]", "&x=1", "?x=1", "//")
# The links that open something by themselves. Others lead to pages for those who are signed in.
_LINK = re.compile(r"https://app\.example\.com(/(?:password/reset|email/confirm)/[^\s]+)")


async def attack(context: Context, notes: Notes) -> None:
    await _misuse_mailed_links(context)
    if context.is_apart:
        await _misuse_voice_links(context)
    await _show_credentials(context)
    await asyncio.sleep(1)
    read_logs(context, notes)


async def _misuse_mailed_links(context: Context) -> None:
    """Open valid links with something appended."""
    alice, bob = context.people["alice"], context.people["bob"]
    await Browser(context.web).post("/password/reset", {"email": alice.email})
    await context.mailbox.wait_for(alice.email, 2, within=10)
    anybody, another = Browser(context.web), await context.browser(bob)
    for mail in context.mailbox.to(alice.email):
        for path in _LINK.findall(mail.text):
            context.canaries.add(*_secret_parts(path))
            for end in _ENDS:
                for browser in (anybody, another):
                    await browser.get(path + end)
                    await browser.post(path + end, {})


async def _misuse_voice_links(context: Context) -> None:
    line = await make_line(context, context.people["alice"])
    call, order = await context.placed_call(line)
    urls = [*call.links.values(), order["Url"], order["StatusCallback"]]
    for url in urls:
        token = token_of(url)
        context.canaries.add(token, *_secret_parts(token))
        for purpose in ("answer", "status", "stream", "after", "nothing"):
            for end in _ENDS[::2]:
                path = f"/voice/{purpose}/{token}{end}"
                await context.engine.ask("GET", path)
                await context.engine.ask("POST", path, form={"CallSid": "x"})
                await context.web.ask("POST", path, form={"CallSid": call.call_sid})
    await call.hang_up()


async def _show_credentials(context: Context) -> None:
    """Put credentials where they do not belong: URLs, other headers, other fields."""
    people = [context.people["alice"], context.people["bob"]]
    for secret in [*(p.key for p in people), *(p.token for p in people)]:
        for path in (f"/{secret}", f"/api/{secret}", f"/docs/{secret}", f"/api/calls/{secret}"):
            for end in ("", "_", "/", "%00"):
                await context.web.ask("GET", path + end, token=secret)
        for name in ("X-Request-Id", "Cookie", "Host", "Referer", "Origin", "User-Agent"):
            headers = {name: secret}
            await context.web.ask("POST", "/login", headers=headers, form={"a": secret})
        await context.web.ask("GET", f"/login?next={quote(secret)}")
        await context.web.ask("POST", "/api/auth/login", raw=secret.encode())
    for person in people:
        body = {"email": person.password, "password": person.password}
        await context.web.ask("POST", "/api/auth/login", body=body)


def _secret_parts(path: str) -> list[str]:
    """Return the secret parts of a link: its signature, and the token with it."""
    token = path.rstrip("/").rpartition("/")[2]
    parts = re.split(r"[.:]", token)
    return [token, parts[-1], token.rpartition("-")[2]]


def read_logs(context: Context, notes: Notes) -> None:
    """Search for every secret of the run in every logged line."""
    environment = context.product.environment
    context.canaries.add(
        environment["SECRET_KEY"],
        environment["STRIPE_SECRET_KEY"],
        environment["STRIPE_WEBHOOK_SECRET"],
    )
    lines = context.product.log_lines()
    notes.expect("There are logs to read.", bool(lines))
    text = "\n".join(line for _, line in lines)
    for secret in sorted(context.canaries):
        if notes.expect(
            "No secret is in a log.", secret not in text, sent=_masked(secret), came=""
        ):
            continue
        name, line = next((name, line) for name, line in lines if secret in line)
        finding = context.report.findings.pop()
        notes.report.findings.append(
            type(finding)(
                finding.area, finding.case, finding.sent, f"{name}: {_around(line, secret)}"
            )
        )


def _masked(secret: str) -> str:
    return f"{secret[:4]}… ({len(secret)} characters)"


def _around(line: str, secret: str) -> str:
    """Return the part of the line before a secret, so as not to repeat it."""
    before = line[: line.index(secret)]
    return f"…{before[-100:]}[it]"
