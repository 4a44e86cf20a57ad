"""Email: a stranger's words in our emails, to someone who never asked for any."""

from __future__ import annotations

import asyncio
import secrets

from devtools.attack.context import Context
from devtools.attack.report import Notes
from devtools.attack.web import Answer, Browser

NEEDS_NETWORK = False

# Each contains the word that must not arrive.
COMPANIES = (
    "{word}",
    "{word} Ltd\r\n\r\nYour account is locked: https://evil.example.net/{word}",
    "{word}\nBcc: victim@people.example.com",
    "Line one\n{word}",
    "Carriage\r{word}",
    "Separator\u2028{word}",
    "Paragraph\u2029{word}",
    "Next line\x85{word}",
    "Vertical\x0b{word}",
    "Form feed\x0c{word}",
    "Null\x00{word}",
    "Escape\x1b[2J{word}",
    "Override\u202e{word}",
    "https://evil.example.net/{word}",
    "evil.example.net/{word} click here",
    '<a href="https://evil.example.net/{word}">win</a>',
    "{{{{ 7 }}}}{word}{{% debug %}}",
    "=?utf-8?q?{word}?=",
    "{word} " + "x" * 190,
)


async def attack(context: Context, notes: Notes) -> None:
    companies = COMPANIES[::6] if context.is_short else COMPANIES
    await asyncio.gather(
        *(_register(context, notes, company, by_page=False) for company in companies),
        *(_register(context, notes, company, by_page=True) for company in companies),
        *(
            _rename_and_move(context, notes, company)
            for company in companies[: 1 if context.is_short else 4]
        ),
    )


def _filled(company: str) -> tuple[str, str]:
    word = f"w{secrets.token_hex(5)}"
    return company.format(word=word)[:200], word


async def _register(context: Context, notes: Notes, company: str, *, by_page: bool) -> None:
    """Register with another person's address, and a company name that is a message."""
    name, word = _filled(company)
    email = f"{word[::-1]}@people.example.com"
    answer = await _sign_up(context, email, name, by_page=by_page)
    if answer.is_refusal:
        notes.expect("A name is refused.", True)
        return
    await _holds_no(context, notes, email, word, f"companyName {name!r}")


async def _sign_up(context: Context, email: str, company: str, *, by_page: bool) -> Answer:
    form = {"email": email, "password": f"a long walk {secrets.token_hex(4)}"}
    if by_page:
        return await Browser(context.web).post("/signup", {**form, "company_name": company})
    body = {**form, "companyName": company}
    return await context.web.ask("POST", "/api/auth/register", body=body)


async def _rename_and_move(context: Context, notes: Notes, company: str) -> None:
    """Change the account's name, and then its address to another person's."""
    name, word = _filled(company)
    password = f"a long walk {secrets.token_hex(4)}"
    first, second = (f"{word[::-1]}{number}@people.example.com" for number in (1, 2))
    browser = Browser(context.web)
    await browser.post("/signup", {"email": first, "password": password, "company_name": ""})
    await browser.post("/dashboard/settings/company", {"company_name": name})
    form = {"email": second, "current_password": password}
    await browser.post("/dashboard/settings/email", form)
    await Browser(context.web).post("/password/reset", {"email": second})
    for email, count in ((first, 2), (second, 2)):
        await _holds_no(context, notes, email, word, f"a company named {name!r}, later", count)


async def _holds_no(
    context: Context, notes: Notes, email: str, word: str, sent: str, count: int = 1
) -> None:
    """Read the emails to an unconfirmed address."""
    mails = await context.mailbox.wait_for(email, count, within=15)
    case = "Nothing that a stranger typed is sent to an unconfirmed address."
    notes.expect("An email is sent.", bool(mails), sent=sent, came="no mail")
    for mail in mails:
        notes.expect(case, word not in mail.text, sent=sent, came=mail.text)
        notes.expect(
            "An email has no headers from a stranger.",
            b"\nbcc:" not in mail.raw.lower().partition(b"\r\n\r\n")[0],
            sent=sent,
            came=mail.raw[:300],
        )
