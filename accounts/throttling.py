"""How often somebody may log in, register, and have us send mails: per address, and per email.

A window opens with an attempt and has a fixed length; it holds so many attempts, and who comes too
late is told when it ends. A limit does not count what it refuses: trying on makes nothing longer.

===========================  ==================================  ===========
what is counted              setting                             window
===========================  ==================================  ===========
logins per address           ``LOGINS_PER_ADDRESS``              1 minute
failed logins per email     ``LOGIN_FAILURES_PER_EMAIL``        15 minutes
wrong codes per account      ``LOGIN_FAILURES_PER_EMAIL``        15 minutes
registrations per address    ``REGISTRATIONS_PER_ADDRESS``       1 hour
registrations per email     ``REGISTRATIONS_PER_EMAIL``         1 hour
mails asked for per address  ``MAILS_PER_ADDRESS``               1 hour
mails asked for per email   ``MAILS_PER_EMAIL``                 1 hour
test calls per account       10                                  1 minute
callback checks per account  10                                  1 minute
===========================  ==================================  ===========

Whether there is an account for an email address plays no part in it. Somebody who fails often
enough on purpose keeps its owner from logging in for as long; API keys and tokens work on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts.email_addresses import normalize_email
from accounts.models import Account, AttemptCount
from core.client_address import client_network
from core.connections import give_connection_back
from core.errors import ApiError
from core.sealing import keyed_hashes

log = structlog.get_logger(__name__)

ACCOUNT_ATTEMPTS = 10


@contextmanager
def login_attempt(request: HttpRequest, *, email: str) -> Iterator[None]:
    """Try to log in inside; raise 429 ``too_many_requests`` instead, before a password is hashed.

    Each attempt counts as a failure until it has succeeded, or all that come at once would pass.
    One that succeeds clears what was counted against the email address.
    """
    failures = _limit(
        "failed logins", normalize_email(email), settings.LOGIN_FAILURES_PER_EMAIL, minutes=15
    )
    _limit("logins", client_network(request), settings.LOGINS_PER_ADDRESS, minutes=1).take()
    failures.take()
    yield
    AttemptCount.objects.filter(pk=failures.subject).delete()


@contextmanager
def second_factor_attempt(request: HttpRequest, account: Account) -> Iterator[None]:
    """Check a code or a passkey inside; raise 429 ``too_many_requests`` instead.

    Counted as logins are, and apart from them: whoever has the password, which clears those, does
    not get more guesses at the code by it.
    """
    failures = _limit("wrong codes", account.id, settings.LOGIN_FAILURES_PER_EMAIL, minutes=15)
    _limit("logins", client_network(request), settings.LOGINS_PER_ADDRESS, minutes=1).take()
    failures.take()
    yield
    AttemptCount.objects.filter(pk=failures.subject).delete()


@contextmanager
def registration_attempt(request: HttpRequest, *, email: str) -> Iterator[None]:
    """Try to register inside; raise 429 ``too_many_requests`` instead.

    An attempt whose input was wrong does not count.
    """
    limits = [
        _limit(
            "registrations", client_network(request), settings.REGISTRATIONS_PER_ADDRESS, minutes=60
        ),
        _limit(
            "registrations", normalize_email(email), settings.REGISTRATIONS_PER_EMAIL, minutes=60
        ),
    ]
    for limit in limits:
        limit.take()
    give_connection_back()
    try:
        yield
    except ValidationError:
        for limit in limits:
            AttemptCount.objects.give_back(limit.subject)
        raise


def mail_request(request: HttpRequest, *, what: str, to: str) -> None:
    """Count a mail that somebody has us send; raise 429 ``too_many_requests`` instead.

    :param what: the mails that are counted together: "password resets", "confirmations".
    :param to: an email address, or the id of an account that may have several in a row.
    """
    network, per_address = client_network(request), settings.MAILS_PER_ADDRESS
    _limit(f"{what} asked for", network, per_address, minutes=60).take()
    _limit(what, normalize_email(to), settings.MAILS_PER_EMAIL, minutes=60).take()


def account_attempt(account: Account, *, what: str) -> None:
    """Count what an account has our server do for it at once; raise 429 ``too_many_requests``."""
    _limit(what, account.id, ACCOUNT_ATTEMPTS, minutes=1).take()


def is_first_in_an_hour(account: Account, *, what: str, to: str = "") -> bool:
    """Whether something has not happened to an account for an hour, before this."""
    limit = _limit(f"{what} {to}", account.id, 1, minutes=60)
    return AttemptCount.objects.take(limit.subject, most=1, window=limit.window) is None


def is_one_of_few(account: Account, *, what: str, most: int) -> bool:
    """Whether something has happened to an account ``most`` times in this minute at most."""
    limit = _limit(what, account.id, most, minutes=1)
    return AttemptCount.objects.take(limit.subject, most=most, window=limit.window) is None


@dataclass(frozen=True, slots=True)
class _Limit:
    what: str
    subject: str
    most: int
    window: timedelta

    def take(self) -> None:
        """Count an attempt, or refuse it."""
        wait = AttemptCount.objects.take(self.subject, most=self.most, window=self.window)
        if wait is None:
            return
        log.info("too_many_attempts", what=self.what)
        seconds = max(1, math.ceil(wait.total_seconds()))
        raise ApiError(
            429,
            "too_many_requests",
            f"Too many attempts: try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )


def _limit(what: str, who: str, most: int, *, minutes: int) -> _Limit:
    subject, *_ = keyed_hashes(f"{what} of {who}".encode(), purpose="attempts")
    return _Limit(what, subject, most, timedelta(minutes=minutes))
