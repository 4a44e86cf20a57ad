"""Mails to customers: queued with what they are about, and sent by a worker.

A mail is ``templates/mail/<name>.txt``, without HTML escapes: the subject, an empty line, the text.
A link that lets somebody in is made when the mail is sent, so that no job's arguments hold it.

An address that nobody has confirmed may be a stranger's: only what is about the address itself is
sent there (``TO_ANY_ADDRESS``), and nothing that somebody has typed in: whoever signs up with an
address of somebody else's must not have us say anything to them. All other mails wait for nothing:
they are not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from procrastinate.types import JSONValue

from accounts.links import password_reset_link, verification_link
from accounts.models import Account
from core.connections import give_connection_back
from core.queue.jobs import defer

log = structlog.get_logger(__name__)

TASK = "accounts.tasks.send_mail"

VERIFY_EMAIL = "verify_email"
PASSWORD_RESET = "password_reset"  # noqa: S105 (a mail's name)
PASSWORD_RESET_UNCONFIRMED = "password_reset_unconfirmed"  # noqa: S105 (a mail's name)
PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a mail's name)
# These two are queued for an address that was confirmed, and is the account's no longer.
EMAIL_CHANGED = "email_changed"
SECOND_FACTOR_CHANGED = "second_factor_changed"
ACCOUNT_DELETED = "account_deleted"

TO_ANY_ADDRESS = frozenset({VERIFY_EMAIL, PASSWORD_RESET_UNCONFIRMED})
_LINKS: Mapping[str, Callable[[Account], str]] = {
    VERIFY_EMAIL: verification_link,
    PASSWORD_RESET: password_reset_link,
}


def mail_queue(*, account: Account, name: str, to: str = "", **context: JSONValue) -> None:
    """Have a mail sent once the caller's transaction has committed.

    :param to: another address than the account's own.
    :param context: what its template shows beside ``account``, ``public_url`` and ``link``; it
        stands in the queue, so that nothing secret may be in it.

    Nothing happens but a warning in the log where there is no mail server (``EMAIL_URL``).
    """
    if not settings.SENDS_MAIL:
        log.warning("mail_not_sent", account_id=account.id, mail=name, missing="EMAIL_URL")
        return
    arguments: dict[str, Any] = {"to": to} if to else {}
    defer(TASK, account_id=account.id, name=name, context=context, **arguments)


def may_be_sent(account: Account, name: str) -> bool:
    """Whether the account, as it is now, and its address may get this mail."""
    if not account.is_active:
        return name == ACCOUNT_DELETED
    if name == VERIFY_EMAIL:
        return not account.is_email_verified
    return account.is_email_verified or name in TO_ANY_ADDRESS or name == EMAIL_CHANGED


def mail_send(*, account: Account, name: str, context: dict[str, Any], to: str = "") -> None:
    """Send a mail now; raise ``OSError`` or ``SMTPException`` when the mail server does not."""
    if not may_be_sent(account, name):
        log.info(
            "mail_not_sent",
            account_id=account.id,
            mail=name,
            why="address not confirmed, or account disabled",
        )
        return
    known = {"account": account, "public_url": settings.PUBLIC_URL}
    if make_link := _LINKS.get(name):
        known["link"] = make_link(account)
    text = render_to_string(f"mail/{name}.txt", known | context)
    subject, _, body = text.partition("\n\n")
    give_connection_back()
    try:
        EmailMessage(subject.strip(), body, to=[to or account.email]).send()
    except ValueError as error:  # a header cannot hold the address: trying again changes nothing
        log.error("mail_not_sent", account_id=account.id, mail=name, why=type(error).__name__)
    else:
        log.info("mail_sent", account_id=account.id, mail=name)
