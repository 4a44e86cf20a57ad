"""Rate limits for sign-ins, sign-ups and emails, per client network and per email address.

A window begins with an attempt and has a fixed length and a limit. An attempt over the limit is
told when the window ends. Rejected attempts do not count, so retrying does not extend a window.

============================  =============================  ==========
attempts                      setting                        window
============================  =============================  ==========
sign-ins per network          ``LOGINS_PER_ADDRESS``         1 minute
failed sign-ins per email     ``LOGIN_FAILURES_PER_EMAIL``   15 minutes
wrong codes per account       ``LOGIN_FAILURES_PER_EMAIL``   15 minutes
sign-ups per network          ``REGISTRATIONS_PER_ADDRESS``  1 hour
sign-ups per email            ``REGISTRATIONS_PER_EMAIL``    1 hour
look-ups of an email          ``REGISTRATIONS_PER_ADDRESS``  1 hour
emails requested per network  ``MAILS_PER_ADDRESS``          1 hour
emails requested per email    ``MAILS_PER_EMAIL``            1 hour
test calls per account        10                             1 minute
callback checks per account   10                             1 minute
requests to Twilio            60, per account                1 minute
wrong Twilio credentials      10, per account                15 minutes
============================  =============================  ==========

Limits apply whether or not an email address has an account. Somebody who fails often enough on
purpose blocks the owner from signing in for that window; API keys and tokens keep working.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
MOST_CREDENTIALS_USES = 60


@contextmanager
def login_attempt(request: HttpRequest, *, email: str) -> Iterator[None]:
    """Sign in inside; raise 429 ``too_many_requests`` before a password is hashed.

    Each attempt counts as a failure until it succeeds, else concurrent ones would all pass. A
    success clears the count of the email address.
    """
    failures = _limit(
        "failed logins", normalize_email(email), settings.LOGIN_FAILURES_PER_EMAIL, minutes=15
    )
    with _counted_as_failure(request, failures):
        yield


@contextmanager
def second_factor_attempt(request: HttpRequest, account: Account) -> Iterator[None]:
    """Verify a code or a passkey inside; raise 429 ``too_many_requests`` over the limit.

    Counted separately from sign-ins: the right password clears those, and must not give more
    guesses at the code.
    """
    failures = _limit("wrong codes", account.id, settings.LOGIN_FAILURES_PER_EMAIL, minutes=15)
    with _counted_as_failure(request, failures):
        yield


@contextmanager
def _counted_as_failure(request: HttpRequest, failures: _Limit) -> Iterator[None]:
    """Count an attempt of the network and a failure; success clears the failures."""
    _limit("logins", client_network(request), settings.LOGINS_PER_ADDRESS, minutes=1).take()
    failures.take()
    yield
    AttemptCount.objects.filter(pk=failures.subject).delete()


@contextmanager
def registration_attempt(request: HttpRequest, *, email: str) -> Iterator[None]:
    """Sign up inside; raise 429 ``too_many_requests`` over the limit.

    An attempt with invalid input does not count.
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


def may_look_up_email(request: HttpRequest) -> bool:
    """Return True if a sign-up with invalid input may learn whether its address is taken.

    Such sign-ups do not count, so they would try any number of addresses.
    """
    most = settings.REGISTRATIONS_PER_ADDRESS
    limit = _limit("email look-ups", client_network(request), most, minutes=60)
    return AttemptCount.objects.take(limit.subject, most=most, window=limit.window) is None


def mail_request(request: HttpRequest, *, what: str, to: str) -> None:
    """Count an email that somebody requests; raise 429 ``too_many_requests`` over the limit.

    :param what: the emails that are counted together: "password resets", "confirmations".
    :param to: an email address, or the id of an account that may change its address.
    """
    network, per_address = client_network(request), settings.MAILS_PER_ADDRESS
    _limit(f"{what} asked for", network, per_address, minutes=60).take()
    _limit(what, normalize_email(to), settings.MAILS_PER_EMAIL, minutes=60).take()


def account_attempt(account: Account, *, what: str) -> None:
    """Count a costly request of an account; raise 429 ``too_many_requests`` over the limit."""
    _limit(what, account.id, ACCOUNT_ATTEMPTS, minutes=1).take()


@contextmanager
def twilio_attempt(account: Account, *, are_wrong: Callable[[Exception], bool]) -> Iterator[None]:
    """Use Twilio credentials inside; raise 429 ``too_many_requests`` over the limit.

    This keeps people from guessing credentials through us. An attempt counts as a failure until it
    succeeds: otherwise concurrent attempts would all pass. A success does not reset the count,
    because working credentials could then pay for guesses at others.
    """
    failures = _limit("wrong requests to Twilio", account.id, ACCOUNT_ATTEMPTS, minutes=15)
    _limit("requests to Twilio", account.id, MOST_CREDENTIALS_USES, minutes=1).take()
    failures.take()
    try:
        yield
    except Exception as error:
        if not are_wrong(error):
            AttemptCount.objects.give_back(failures.subject)
        raise
    AttemptCount.objects.give_back(failures.subject)


def is_first_in_an_hour(account: Account, *, what: str, to: str = "") -> bool:
    """Return True if this is the first such event of an account in an hour."""
    limit = _limit(f"{what} {to}", account.id, 1, minutes=60)
    return AttemptCount.objects.take(limit.subject, most=1, window=limit.window) is None


def is_one_of_few(account: Account, *, what: str, most: int) -> bool:
    """Return True for at most ``most`` such events of an account in a minute."""
    limit = _limit(what, account.id, most, minutes=1)
    return AttemptCount.objects.take(limit.subject, most=most, window=limit.window) is None


@dataclass(frozen=True, slots=True)
class _Limit:
    what: str
    subject: str
    most: int
    window: timedelta

    def take(self) -> None:
        """Count an attempt; raise 429 over the limit."""
        wait = AttemptCount.objects.take(self.subject, most=self.most, window=self.window)
        if wait is None:
            return
        log.info("too_many_attempts", what=self.what)
        seconds = max(1, math.ceil(wait.total_seconds()))
        raise ApiError(
            429,
            "too_many_requests",
            f"Too many attempts. Try again in {seconds} seconds.",
            headers={"Retry-After": str(seconds)},
        )


def _limit(what: str, who: str, most: int, *, minutes: int) -> _Limit:
    subject, *_ = keyed_hashes(f"{what} of {who}".encode(), purpose="attempts")
    return _Limit(what, subject, most, timedelta(minutes=minutes))
