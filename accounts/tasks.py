"""The jobs of this app."""

from __future__ import annotations

from importlib import import_module
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from accounts.actors import Origin
from accounts.logins import login_failure_note
from accounts.mails import mail_send
from accounts.models import Account, AttemptCount
from accounts.passwords import password_reset_send
from core.queue import lanes

BATCH = 10_000

# After 4, 16, 64, … seconds: four days in all, about as long as mail servers retry.
_WHILE_MAIL_IS_DOWN = RetryStrategy(
    max_attempts=9, exponential_wait=4, retry_exceptions=[OSError, SMTPException]
)


@app.task(queue=lanes.MAIL, retry=_WHILE_MAIL_IS_DOWN)
def send_mail(account_id: str, name: str, context: dict[str, Any], to: str = "") -> None:
    if account := Account.objects.filter(pk=account_id).first():
        mail_send(account=account, name=name, context=context, to=to)


@app.task(queue=lanes.MAIL, retry=_WHILE_MAIL_IS_DOWN)
def send_password_reset(sealed_email: str, asked_from: dict[str, str] | None = None) -> None:
    password_reset_send(sealed_email, Origin(**(asked_from or {})))


@app.task(queue=lanes.MAIL)
def note_failed_login(sealed_email: str, tried_from: dict[str, str]) -> None:
    login_failure_note(sealed_email, Origin(**tried_from))


@app.periodic(cron="37 3 * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_sessions")
def forget_sessions(timestamp: int) -> None:
    """Delete expired sessions."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


@app.periodic(cron="*/10 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_attempts")
def forget_attempts(timestamp: int) -> None:
    """Delete the counts of windows that have ended."""
    while AttemptCount.objects.forget_ended(at_most=BATCH) == BATCH:
        pass
