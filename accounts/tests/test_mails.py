"""Mails, from the queue to the mail server."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connection
from django.utils import timezone

from accounts.mails import mail_queue
from accounts.models import Account
from accounts.tasks import forget_sessions, send_mail

pytestmark = pytest.mark.django_db


@pytest.fixture
def template(tmp_path: Path, settings: Any) -> str:
    """A mail's template."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "hello.txt").write_text(
        "{% autoescape off %}Hello {{ account.company_name }}\n\nLook: {{ public_url }}/{{ place }}"
        "{% endautoescape %}"
    )
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"DIRS": [tmp_path]}]
    return "hello"


def queued() -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "delete from procrastinate_jobs where task_name = 'accounts.tasks.send_mail'"
            " returning args"
        )
        return [json.loads(arguments) for (arguments,) in cursor.fetchall()]


def test_it_works(alice: Account, template: str, settings: Any) -> None:
    mail_queue(account=alice, name=template, place="docs")
    [arguments] = queued()
    send_mail(**arguments)
    [sent] = mail.outbox
    assert (sent.subject, sent.to) == ("Hello Alice's Plumbing", ["alice@example.org"])
    assert sent.body == f"Look: {settings.PUBLIC_URL}/docs"


def test_nobody_is_written_to_who_has_gone(alice: Account, template: str) -> None:
    send_mail(account_id="cgone", name=template, context={})
    Account.objects.filter(pk=alice.pk).update(is_active=False)
    send_mail(account_id=alice.id, name=template, context={})
    assert mail.outbox == []


def test_without_a_mail_server_none_is_queued(alice: Account, template: str, settings: Any) -> None:
    settings.SENDS_MAIL = False
    mail_queue(account=alice, name=template)
    assert queued() == []


def test_another_address_can_be_named(alice: Account, template: str) -> None:
    mail_queue(account=alice, name=template, to="old@example.org", place="")
    [arguments] = queued()
    send_mail(**arguments)
    assert [sent.to for sent in mail.outbox] == [["old@example.org"]]


def test_an_address_that_nobody_has_confirmed_gets_none(alice: Account, template: str) -> None:
    Account.objects.update(email_verified_at=None)
    send_mail(account_id=alice.id, name=template, context={})
    assert mail.outbox == []


def test_sessions_that_have_expired_are_deleted(alice: Account) -> None:
    now = timezone.now()
    for key, days in (("old", -1), ("new", 1)):
        Session.objects.create(session_key=key, expire_date=now + timedelta(days=days))
    forget_sessions(timestamp=0)
    assert list(Session.objects.values_list("session_key", flat=True)) == ["new"]
