"""Messages to an account's owner about incidents: by email, and to a webhook of their own.

Both have the same text: that of the email's template. They are queued in the transaction that
stores the incident. The webhook takes what Slack's incoming webhooks take, a POST of
``{"text": …}``; if it fails, that is shown with the settings, and the email is sent all the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.utils import timezone

from accounts.mails import mail_queue
from core.queue.jobs import defer
from core.zones import short, zone_of
from telephony.callbacks.client import (
    BadUrl,
    BlockedAddress,
    TimedOut,
    TlsFailed,
    TooLarge,
    Unreachable,
)
from telephony.models import COUNTED_TO, Incident, NotificationSettings

POST_TASK = "telephony.tasks.post_notice"


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
}
# What an attempt's result says about the endpoint, after "It".
_RESULTS = {
    TimedOut.code: "did not respond in time",
    Unreachable.code: "could not be reached",
    TlsFailed.code: "has no valid TLS certificate",
    BlockedAddress.code: "has no public address",
    TooLarge.code: "sent a response that is too large",
    BadUrl.code: "has a URL that may not be called",
}


def tell(incident: Incident, event: Event) -> None:
    """Queue the messages about an incident, in the caller's transaction."""
    kind = Incident.Kind(incident.kind)
    name = _MAILS[kind, event]
    settings = settings_of(incident.account_id)
    wanted = settings.emails_calls if kind is Incident.Kind.CALLS else settings.emails_callbacks
    if wanted:
        mail_queue(account=incident.account, name=name, **context_of(incident))
    if settings.sealed_webhook:
        defer(POST_TASK, incident_id=incident.pk, event=str(event))


def settings_of(account_id: str) -> NotificationSettings:
    """Return the account's settings; the defaults, unsaved, if it has changed none."""
    stored = NotificationSettings.objects.filter(pk=account_id).first()
    return stored or NotificationSettings(account_id=account_id)


def context_of(incident: Incident) -> dict[str, Any]:
    """Return the values for the text of a message: texts, ready to be read."""
    lasted = (incident.ended_at or incident.last_at) - incident.began_at
    return incident.facts | {
        "since": moment(incident.began_at, incident.account.time_zone),
        "lasted": in_words(lasted),
        "answer": answer_in_words(str(incident.facts.get("result", ""))),
    }


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
