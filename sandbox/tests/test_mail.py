"""The sandbox's mailbox."""

from __future__ import annotations

import pytest
from django.core.mail import EmailMessage
from django.core.mail.message import BadHeaderError
from django.test import Client

from docs.tests.test_docs import Links
from sandbox.mail.backend import MailboxBackend

pytestmark = pytest.mark.django_db

PATH = "/sandbox/mail/"


def send(subject: str, to: str = "you@example.org", body: str = "Hello") -> None:
    MailboxBackend().send_messages([EmailMessage(subject, body, "us@example.org", [to])])


def test_it_works() -> None:
    send("First", body="Open http://127.0.0.1:8000/email/confirm/abc.def-_g\n\n<b>&")
    send("Second")
    response = Client().get(PATH)
    text = response.content.decode()
    assert text.index("Second") < text.index("First")
    assert 'href="http://127.0.0.1:8000/email/confirm/abc.def-_g"' in text
    assert "&lt;b&gt;&amp;" in text
    assert Links(text).inline == []
    assert "'unsafe" not in response["Content-Security-Policy"]


def test_of_one_address() -> None:
    send("Mine")
    send("Theirs", to="they@example.org")
    text = Client().get(PATH, {"to": "you@example.org"}).content.decode()
    assert "Mine" in text
    assert "Theirs" not in text


def test_an_empty_one_says_what_to_do() -> None:
    assert "No mail yet" in Client().get(PATH).content.decode()


def test_what_a_mail_server_would_refuse_is_refused() -> None:
    with pytest.raises(BadHeaderError):
        send("Two\nlines")


def test_the_number_of_queries_does_not_grow(django_assert_num_queries) -> None:
    for number in range(3):
        send(str(number))
    with django_assert_num_queries(1):
        Client().get(PATH)
