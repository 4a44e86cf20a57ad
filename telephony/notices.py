"""Messages to an account's owner about incidents: by email, and to a webhook of their own.

Both have the same text: that of the email's template. They are queued in the transaction that
stores the incident. The webhook takes what Slack's incoming webhooks take, a POST of
``{"text": …}``; if it fails, it is tried again a few times, that is shown with the settings, and
the email is sent all the same. Its URL is a secret: jobs and logs do not have it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts.audit import Action, audit
from accounts.mails import mail_queue, mail_texts
from accounts.models import Account
from core.connections import give_connection_back
from core.queue.jobs import defer
from core.sealing import CannotUnseal, seal, unseal
from core.zones import short, zone_of
from telephony.callback_urls import callback_url_problem
from telephony.callbacks import client
from telephony.callbacks.client import (
    BadUrl,
    BlockedAddress,
    TimedOut,
    TlsFailed,
    TooLarge,
    Unreachable,
)
from telephony.callbacks.origins import origin_of, shown
from telephony.db import in_database
from telephony.explanations import guide_section_url
from telephony.models import COUNTED_TO, Incident, NotificationSettings

POST_TASK = "telephony.tasks.post_notice"


WEBHOOK_TIMEOUT_SECONDS = 10.0
_WEBHOOK_ANSWER = 64 * 1024
TEST_MESSAGE = "This is a test message from Switchhook. Alerts about your account appear here."


class NotPosted(Exception):
    """The webhook did not accept a message."""


class Event(StrEnum):
    FAILED = "failed"
    RECOVERED = "recovered"


# The email of each event, by kind.
_MAILS = {
    (Incident.Kind.ENDPOINT, Event.FAILED): "callbacks_failing",
    (Incident.Kind.ENDPOINT, Event.RECOVERED): "callbacks_recovered",
    (Incident.Kind.GIVEN_UP, Event.FAILED): "callback_given_up",
    (Incident.Kind.CALLS, Event.FAILED): "calls_failing",
    (Incident.Kind.CALLS, Event.RECOVERED): "calls_recovered",
    (Incident.Kind.MODEL, Event.FAILED): "model_retires",
}
# What an attempt's result says about the endpoint, after "It".
_RESULTS = {
    TimedOut.code: "did not respond in time",
    Unreachable.code: "could not be reached",
    TlsFailed.code: "did not have a valid TLS certificate",
    BlockedAddress.code: "had no public address",
    TooLarge.code: "sent a response that was too large",
    BadUrl.code: "had a URL that we may not call",
}


def tell(incident: Incident, event: Event) -> None:
    """Queue the messages about an incident, in the caller's transaction."""
    kind = Incident.Kind(incident.kind)
    name = _MAILS[kind, event]
    settings = settings_of(incident.account_id)
    if _wants_email(settings, kind):
        mail_queue(account=incident.account, name=name, **context_of(incident))
    if settings.sealed_webhook:
        defer(POST_TASK, incident_id=incident.pk, event=str(event))


def _wants_email(settings: NotificationSettings, kind: Incident.Kind) -> bool:
    match kind:
        case Incident.Kind.CALLS:
            return settings.emails_calls
        case Incident.Kind.MODEL:  # at most three of a model
            return True
        case _:
            return settings.emails_callbacks


def settings_of(account_id: str) -> NotificationSettings:
    """Return the account's settings; the defaults, unsaved, if it has changed none."""
    stored = NotificationSettings.objects.filter(pk=account_id).first()
    return stored or NotificationSettings(account_id=account_id)


@transaction.atomic
def emails_set(*, account: Account, calls: bool, callbacks: bool) -> None:
    """Choose the incidents that emails tell of."""
    settings = _locked_settings(account)
    if (settings.emails_calls, settings.emails_callbacks) == (calls, callbacks):
        return
    settings.emails_calls, settings.emails_callbacks = calls, callbacks
    settings.save(update_fields=["emails_calls", "emails_callbacks"])
    audit(
        account=account,
        action=Action.NOTIFICATIONS_CHANGED,
        emails_about_calls=calls,
        emails_about_callbacks=callbacks,
    )


@transaction.atomic
def webhook_set(*, account: Account, url: str) -> None:
    """Set the webhook, or remove it with ``""``; raise ``ValidationError`` at ``url``."""
    if url and (problem := callback_url_problem(url)):
        raise ValidationError({"url": [problem]})
    settings = _locked_settings(account)
    settings.sealed_webhook = seal(url.encode(), purpose=settings.PURPOSE) if url else None
    settings.webhook_posted_at = settings.webhook_failed_at = None
    settings.webhook_problem = ""
    settings.save()
    audit(
        account=account,
        action=Action.NOTIFICATIONS_CHANGED,
        webhook=shown(origin_of(url)) if url else "removed",
    )


def notification_settings_delete(*, account: Account) -> None:
    """Forget the account's settings, and with them the webhook, which is a secret."""
    NotificationSettings.objects.filter(account=account).delete()


def webhook_of(settings: NotificationSettings) -> str:
    """Return the URL of the webhook; ``""`` for none, or if its key was removed."""
    try:
        return unseal(settings.sealed_webhook or b"", purpose=settings.PURPOSE).decode()
    except CannotUnseal:
        return ""


def masked(url: str) -> str:
    """Return a URL that is a secret as pages show it: ``https://hooks.slack.com/…a1B2``."""
    return f"{shown(origin_of(url))}/…{url[-4:]}" if url else ""


def webhook_test(*, account: Account) -> str:
    """Send a test message now; return what went wrong, or ``""``."""
    settings = settings_of(account.pk)
    give_connection_back()
    problem = async_to_sync(slack_post)(webhook_of(settings), TEST_MESSAGE)
    _note(settings, problem)
    return problem


async def post(incident_id: int, event: Event) -> None:
    """Send the message about an incident to the webhook; raise :class:`NotPosted`."""
    message = await in_database(_message, incident_id, event)
    if message is None:
        return
    problem = await slack_post(message.url, message.text)
    await in_database(_note, message.settings, problem)
    if problem:
        raise NotPosted(problem)


@dataclass(frozen=True, slots=True)
class _Message:
    settings: NotificationSettings
    url: str = field(repr=False)
    text: str


def _message(incident_id: int, event: Event) -> _Message | None:
    """Return what to send; None if there is no webhook any more."""
    incident = Incident.objects.select_related("account").filter(pk=incident_id).first()
    if incident is None or not incident.account.is_active:
        return None
    settings = settings_of(incident.account_id)
    url = webhook_of(settings)
    if not url:
        return None
    name = _MAILS[Incident.Kind(incident.kind), event]
    subject, body = mail_texts(account=incident.account, name=name, context=context_of(incident))
    return _Message(settings, url, slack_text(subject, body))


def slack_text(subject: str, body: str) -> str:
    """Return an email as a message: a bold subject, and paragraphs without line breaks.

    Slack reads ``&``, ``<`` and ``>`` as markup unless they are escaped.
    """
    paragraphs = (" ".join(each.split()) for each in body.strip().split("\n\n"))
    return "\n\n".join([f"*{_escaped(subject)}*", *map(_escaped, paragraphs)])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def slack_post(url: str, text: str) -> str:
    """POST a message; return what went wrong, such as ``responded with HTTP 404``, or ``""``."""
    body = json.dumps({"text": text}).encode()
    try:
        answer = await client.post(
            url, body, {}, timeout=WEBHOOK_TIMEOUT_SECONDS, at_most=_WEBHOOK_ANSWER
        )
    except client.CallbackFailed as failure:
        return answer_in_words(failure.code)
    return "" if 200 <= answer.status < 300 else answer_in_words(str(answer.status))


def _note(settings: NotificationSettings, problem: str) -> None:
    """Store how a message went, unless the webhook was replaced or removed in the meantime."""
    now = timezone.now()
    outcome: dict[str, Any] = {"webhook_failed_at": now} if problem else {"webhook_posted_at": now}
    same = NotificationSettings.objects.filter(
        pk=settings.pk, sealed_webhook=bytes(settings.sealed_webhook or b"")
    )
    same.update(webhook_problem=problem, **outcome)


def _locked_settings(account: Account) -> NotificationSettings:
    NotificationSettings.objects.get_or_create(account=account)
    return NotificationSettings.objects.select_for_update().get(account=account)


def context_of(incident: Incident) -> dict[str, Any]:
    """Return the values for the text of a message: texts, ready to be read."""
    lasted = (incident.ended_at or incident.last_at) - incident.began_at
    return incident.facts | {
        "guide": guide_section_url(incident.facts.get("code", "")),
        "since": moment(incident.began_at, incident.account.time_zone),
        "at": _at(incident),
        "lasted": in_words(lasted),
        "answer": answer_in_words(str(incident.facts.get("result", ""))),
    }


def _at(incident: Incident) -> str:
    """Return when the call ended that the message is about; "" for another kind of incident."""
    at = incident.facts.get("at")
    return moment(datetime.fromisoformat(at), incident.account.time_zone) if at else ""


def plain(markdown: str) -> str:
    """Return a sentence in Markdown as an email has it."""
    return markdown.replace("`", "").replace("*", "")


def answer_in_words(result: str) -> str:
    """Return the result of an attempt as a sentence without its subject: ``responded with …``."""
    if result.isascii() and result.isdecimal():
        return f"responded with HTTP {result}"
    return _RESULTS.get(result, "did not accept it")


def counted(waiting: int) -> str:
    """Return how many callbacks wait, a count up to ``COUNTED_TO``: ``12``, ``1,000+``."""
    return f"{waiting:,}" if waiting <= COUNTED_TO else f"{COUNTED_TO:,}+"


def moment(at: datetime, zone: str) -> str:
    """Return a time in a zone: ``3 Nov 2026, 14:05 EST``."""
    with timezone.override(zone_of(zone)):
        return short(at)


def in_words(lasted: timedelta) -> str:
    """Return a duration: ``3 hours``, ``1 hour 20 minutes``, ``2 days``."""
    minutes = max(1, round(lasted.total_seconds() / 60))
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [(days, "day"), (hours, "hour"), (0 if days else minutes, "minute")]
    return " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count)
