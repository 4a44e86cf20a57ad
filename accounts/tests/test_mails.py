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

from accounts.mails import ACCOUNT_DELETED, EMAIL_CHANGED, TO_ANY_ADDRESS, VERIFY_EMAIL, mail_queue
from accounts.models import Account
from accounts.services import api_key_create, email_change
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


# What somebody could type in to have us say it to a stranger.
TYPED = "Win at https://evil.example"
CONTEXT = {"mark": 80, "limit": "5.00", "spent": "4.10", "month": "April 2026"}
NAMES = sorted(
    path.stem for path in (Path(__file__).resolve().parents[2] / "templates/mail").iterdir()
)


def mail_of(account: Account, name: str) -> mail.EmailMessage | None:
    """Return what the account gets of this mail, if it does."""
    mail.outbox.clear()
    send_mail(account_id=account.id, name=name, context=CONTEXT)
    return mail.outbox[0] if mail.outbox else None


@pytest.mark.ignore_template_errors  # some mails have more in their context
@pytest.mark.parametrize("name", NAMES)
def test_no_mail_holds_what_somebody_has_typed_in(alice: Account, name: str) -> None:
    """Neither to a stranger nor to who it is: a mail program makes links of what looks like one."""
    api_key_create(account=alice, label=TYPED)
    is_active = name != ACCOUNT_DELETED
    Account.objects.update(company_name=TYPED, suspension_reason=TYPED, is_active=is_active)
    found = mail_of(alice, name)
    text = f"{found.subject}\n{found.body}" if found else ""
    assert "evil" not in text
    assert bool(found) is (name != VERIFY_EMAIL)  # it is confirmed


@pytest.mark.parametrize("name", NAMES)
def test_an_address_that_nobody_has_confirmed_is_told_nothing_of_a_strangers(
    alice: Account, name: str
) -> None:
    """Not even its own, which may say something: ``you+win.at.evil.example@gmail.com``."""
    Account.objects.update(
        company_name=TYPED, email="you+win.at.evil.example@gmail.com", email_verified_at=None
    )
    found = mail_of(alice, name)
    if name in TO_ANY_ADDRESS:
        assert found
        assert "evil" not in f"{found.subject}\n{found.body}"
    elif name != EMAIL_CHANGED:  # which goes to the address before, if that one was confirmed
        assert found is None


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_the_old_address_is_told_of_a_change_if_it_was_confirmed(
    alice: Account, is_confirmed: bool
) -> None:
    if not is_confirmed:
        alice.email_verified_at = None
        alice.save()
    email_change(account=alice, email="alice@new.example")
    told = [EMAIL_CHANGED, VERIFY_EMAIL] if is_confirmed else [VERIFY_EMAIL]
    assert [job["name"] for job in queued()] == told


@pytest.mark.ignore_template_errors
def test_an_address_that_no_header_can_hold_stops_no_job(alice: Account, template: str) -> None:
    send_mail(account_id=alice.id, name=template, context={}, to="alice@example.org\nBcc: b@c.de")
    assert mail.outbox == []
