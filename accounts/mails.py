"""Emails to customers, queued in a transaction and sent by a worker.

An email is ``templates/mail/<name>.txt``, without HTML escapes: the subject, an empty line, the
body. A link that grants access is made when the email is sent, so that no job's arguments hold it.

An unconfirmed address may belong to somebody else. It only gets emails about the address itself
(``TO_ANY_ADDRESS``), and none of them quotes what a user typed in: else anybody could use a sign-up
to send a stranger a message in our name. All other emails are dropped.
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
PASSWORD_RESET = "password_reset"  # noqa: S105 (an email's name)
PASSWORD_RESET_UNCONFIRMED = "password_reset_unconfirmed"  # noqa: S105 (an email's name)
PASSWORD_CHANGED = "password_changed"  # noqa: S105 (an email's name)
# These two are queued for an address that was confirmed and no longer belongs to the account.
EMAIL_CHANGED = "email_changed"
SECOND_FACTOR_CHANGED = "second_factor_changed"
ACCOUNT_DELETED = "account_deleted"

TO_ANY_ADDRESS = frozenset({VERIFY_EMAIL, PASSWORD_RESET_UNCONFIRMED})
_LINKS: Mapping[str, Callable[[Account], str]] = {
    VERIFY_EMAIL: verification_link,
    PASSWORD_RESET: password_reset_link,
}


def mail_queue(*, account: Account, name: str, to: str = "", **context: JSONValue) -> None:
    """Queue an email; it is sent after the caller's transaction commits.

    :param to: an address other than the account's own.
    :param context: values for the template besides ``account``, ``public_url``, ``support`` and
        ``link``. They are stored in the queue, so they must not be secret.

    Without a mail server (``EMAIL_URL``) this only logs a warning.
    """
    if not settings.SENDS_MAIL:
        log.warning("mail_not_sent", account_id=account.id, mail=name, missing="EMAIL_URL")
        return
    arguments: dict[str, Any] = {"to": to} if to else {}
    defer(TASK, account_id=account.id, name=name, context=context, **arguments)


def may_be_sent(account: Account, name: str) -> bool:
    """Return True if this email may go to the account and its address as they are now."""
    if not account.is_active:
        return name == ACCOUNT_DELETED
    if name == VERIFY_EMAIL:
        return not account.is_email_verified
    return account.is_email_verified or name in TO_ANY_ADDRESS or name == EMAIL_CHANGED


def mail_send(*, account: Account, name: str, context: dict[str, Any], to: str = "") -> None:
    """Send an email now; raise ``OSError`` or ``SMTPException`` if the mail server fails."""
    if not may_be_sent(account, name):
        log.info(
            "mail_not_sent",
            account_id=account.id,
            mail=name,
            why="address not confirmed, or account disabled",
        )
        return
    subject, body = mail_texts(account=account, name=name, context=context)
    give_connection_back()
    try:
        EmailMessage(subject, body, to=[to or account.email]).send()
    except ValueError as error:  # a header cannot hold the address, so a retry cannot help
        log.error("mail_not_sent", account_id=account.id, mail=name, why=type(error).__name__)
    else:
        log.info("mail_sent", account_id=account.id, mail=name)


def mail_texts(*, account: Account, name: str, context: dict[str, Any]) -> tuple[str, str]:
    """Return the subject and the body of an email."""
    known = {
        "account": account,
        "public_url": settings.PUBLIC_URL,
        "support": settings.SUPPORT_URL or settings.SUPPORT_EMAIL or settings.PUBLIC_URL,
    }
    if make_link := _LINKS.get(name):
        known["link"] = make_link(account)
    text = render_to_string(f"mail/{name}.txt", known | context)
    subject, _, body = text.partition("\n\n")
    return subject.strip(), body
