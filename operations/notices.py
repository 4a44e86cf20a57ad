"""Messages to operators about incidents: by email, and to a Slack-compatible webhook.

They are stored in the transaction that notes the incident, and sent after it by whichever process
finds them due, not by a job: that no worker runs may be what they say. Each is sent once, and
again only if that failed, for a day.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from smtplib import SMTPException

import structlog
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from core.connections import give_connection_back
from core.zones import short
from operations.conditions import BY_KEY, absolute
from operations.figures import list_url
from operations.models import Incident, Notice
from telephony.callbacks import client
from telephony.notices import in_words, plain, slack_post, slack_text

log = structlog.get_logger(__name__)

GIVEN_UP_AFTER = timedelta(days=1)
# Longer than an attempt takes: an email's timeout applies to each of its steps. It doubles with
# each attempt.
_RETRY_AFTER = timedelta(minutes=3)
_RETRY_AT_LATEST = timedelta(hours=1)
_MOST_AT_ONCE = 50
# In a subject, where a filter can find it.
PREFIX = "Switchhook"


def channels() -> list[Notice.Channel]:
    """Return how operators are told."""
    return [
        *([Notice.Channel.EMAIL] if settings.OPERATOR_EMAILS and settings.SENDS_MAIL else []),
        *([Notice.Channel.WEBHOOK] if settings.OPERATOR_WEBHOOK_URL else []),
    ]


def tell(incident: Incident, event: Notice.Event, now: datetime) -> None:
    """Store the messages about an event, in the caller's transaction.

    The one about an end says all that there is to say, so an earlier one that failed is not tried
    again.
    """
    Notice.objects.filter(incident=incident, sent_at=None, attempts__gt=0).delete()
    Notice.objects.bulk_create(
        Notice(incident=incident, event=event, channel=channel, created_at=now, due_at=now)
        for channel in channels()
    )


def send_due() -> None:
    """Send the messages that are due. No connection is held meanwhile."""
    for _ in range(_MOST_AT_ONCE):
        notice = _claim()
        if notice is None:
            return
        problem = _sent(notice)
        sent_at = None if problem else timezone.now()
        Notice.objects.filter(pk=notice.pk).update(sent_at=sent_at, problem=problem[:200])
        if problem:
            log.error("operators_not_told", channel=notice.channel, problem=problem)


@transaction.atomic
def _claim() -> Notice | None:
    """Return the notice that has been due longest, postponed so that no other process sends it."""
    now = timezone.now()
    due = Notice.objects.filter(sent_at=None, due_at__lte=now, created_at__gt=now - GIVEN_UP_AFTER)
    notice = (
        due.select_related("incident")
        .select_for_update(skip_locked=True, of=("self",))
        .order_by("due_at", "pk")
        .first()
    )
    if notice is not None:
        notice.due_at = now + min(_RETRY_AFTER * 2**notice.attempts, _RETRY_AT_LATEST)
        notice.attempts += 1
        notice.save(update_fields=["due_at", "attempts"])
    return notice


def _sent(notice: Notice) -> str:
    """Send a message now; return what went wrong, or ``""``."""
    subject, body = texts_of(notice)
    give_connection_back()
    if notice.channel == Notice.Channel.EMAIL:
        return _mailed(subject, body)
    return async_to_sync(_posted)(slack_text(subject, body))


def _mailed(subject: str, body: str) -> str:
    try:
        EmailMessage(subject, body, to=settings.OPERATOR_EMAILS).send()
    except (OSError, SMTPException, ValueError) as error:
        return f"The mail server did not accept it ({type(error).__name__})."
    return ""


async def _posted(text: str) -> str:
    problem = await slack_post(settings.OPERATOR_WEBHOOK_URL, text)
    await client.close()  # the next message comes from another event loop
    return f"The webhook {problem}." if problem else ""


def texts_of(notice: Notice) -> tuple[str, str]:
    """Return the subject and the body of a message."""
    incident, condition = notice.incident, BY_KEY.get(notice.incident.key)
    context = {
        "title": condition.title if condition else incident.key,
        "found": incident.text,
        "since": short(incident.began_at),
        "lasted": in_words((incident.ended_at or incident.seen_at) - incident.began_at),
        "meaning": plain(condition.meaning) if condition else "",
        "remedy": plain(condition.remedy) if condition else "",
        "severity": incident.severity,
        "start_url": absolute("/admin/"),
        "list_url": absolute(list_url(Incident)),
        "guide_url": absolute(condition.guide_url) if condition else "",
    }
    text = render_to_string(f"operations/mail/{notice.event}.txt", context)
    subject, _, body = text.partition("\n\n")
    return f"{PREFIX}: {subject.strip()}", body
