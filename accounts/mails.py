"""Mails to customers: queued with what they are about, and sent by a worker.

A mail is ``templates/mail/<name>.txt``, without HTML escapes: the subject, an empty line, the text.
A link that lets somebody in is made when the mail is sent, so that no job's arguments hold it.
"""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from procrastinate.types import JSONValue

from accounts.models import Account
from config.jobs import defer

log = structlog.get_logger(__name__)

TASK = "accounts.tasks.send_mail"


def mail_queue(*, account: Account, name: str, **context: JSONValue) -> None:
    """Have a mail sent once the caller's transaction has committed.

    :param context: what its template shows beside ``account`` and ``public_url``; it stands in the
        queue, so that nothing secret may be in it.

    Nothing happens but a warning in the log where there is no mail server (``EMAIL_URL``).
    """
    if not settings.SENDS_MAIL:
        log.warning("mail_not_sent", account_id=account.id, mail=name, missing="EMAIL_URL")
        return
    defer(TASK, account_id=account.id, name=name, context=context)


def mail_send(*, account: Account, name: str, context: dict[str, Any]) -> None:
    """Send a mail now; raise ``OSError`` or ``SMTPException`` when the mail server does not."""
    known = {"account": account, "public_url": settings.PUBLIC_URL}
    text = render_to_string(f"mail/{name}.txt", known | context)
    subject, _, body = text.partition("\n\n")
    EmailMessage(subject.strip(), body, to=[account.email]).send()
    log.info("mail_sent", account_id=account.id, mail=name)
