"""Client for Twilio's REST API, with a customer's credentials."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import structlog
from django.conf import settings
from django.views.decorators.debug import sensitive_variables
from twilio.base.exceptions import (
    TwilioException,
    TwilioRestException,
    TwilioServiceException,
)
from twilio.base.values import unset
from twilio.base.version import Version
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client
from urllib3.exceptions import NewConnectionError

from telephony.engine.bounds import clipped
from telephony.engine.plan import ACCOUNT_SID, LONGEST_AUTH_TOKEN

log = structlog.get_logger(__name__)

Asked = TypeVar("Asked")

TIMEOUT_SECONDS = 10.0
LONGEST_MESSAGE = 1_000  # of a Twilio error (characters)

AUTH_TOKEN = re.compile(r"[!-~]+")
CALL_SID = re.compile(r"CA[0-9a-fA-F]{32}")
ACCOUNT_SID_RULE = "Use the Account SID: AC and 32 hex digits."


@dataclass(frozen=True, slots=True)
class TwilioCredentials:
    account_sid: str
    auth_token: str = field(repr=False)


def account_sid_problem(sid: str) -> str | None:
    """Return the problem with a text that is not an Account SID; None for an Account SID."""
    return None if ACCOUNT_SID.fullmatch(sid) else ACCOUNT_SID_RULE


def auth_token_problem(token: str) -> str | None:
    """Return the problem with a text that is not an auth token; None for an auth token."""
    is_one = AUTH_TOKEN.fullmatch(token) and len(token) <= LONGEST_AUTH_TOKEN
    return None if is_one else "Use the auth token as Twilio shows it."


# What Twilio says about credentials explains nothing. https://www.twilio.com/docs/api/errors
BAD_CREDENTIALS = 20003
_EXPLAINED = {
    BAD_CREDENTIALS: "Twilio does not accept this Account SID and auth token. Copy both from the "
    "Twilio Console, and check that the account is not suspended or closed.",
    20005: "This Twilio account is suspended or closed. See the Twilio Console.",
    20008: "These are Twilio's test credentials. Use the live ones.",
    20429: "Twilio gets too many requests for this account. Try again in a minute.",
}


class CarrierRejected(Exception):
    """Twilio refused: its error code, and its message or our explanation, which is a sentence."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{message} (Twilio error {code})")


class CarrierUnavailable(Exception):
    """There was no usable response. Twilio may have acted all the same, if the request was sent."""

    def __init__(self, why: str, *, was_sent: bool = True) -> None:
        self.was_sent = was_sent
        super().__init__(why)


@sensitive_variables()
def place_call(
    credentials: TwilioCredentials,
    *,
    to: str,
    from_number: str,
    url: str,
    status_url: str,
    timeout: int,
    machine_detection: str = "",
) -> str:
    """Have Twilio call a number, and return the CallSid.

    ``timeout`` is how long the phone may ring, in seconds. Raises :class:`CarrierRejected` or
    :class:`CarrierUnavailable`, the latter after at most ten seconds.
    """
    call = _ask(
        credentials,
        lambda client: client.calls.create(
            to=to,
            from_=from_number,
            url=url,
            timeout=timeout,
            status_callback=status_url,
            status_callback_event=["initiated", "ringing", "answered", "completed"],
            machine_detection=machine_detection or unset,
        ),
    )
    if not CALL_SID.fullmatch(str(call.sid)):
        raise _unavailable("response without a CallSid")
    return str(call.sid)


@sensitive_variables()
def has_number(credentials: TwilioCredentials, phone_number: str) -> bool:
    """Return True if the Twilio account has the number, in E.164. Raises as :func:`place_call`."""
    found = _ask(
        credentials,
        lambda client: client.incoming_phone_numbers.list(phone_number=phone_number, limit=20),
    )
    return any(number.phone_number == phone_number for number in found)


@sensitive_variables()
def _ask(credentials: TwilioCredentials, question: Callable[[Client], Asked]) -> Asked:
    client = Client(credentials.account_sid, credentials.auth_token, http_client=_QuietHttpClient())
    try:
        return question(client)
    except (TwilioRestException, TwilioServiceException) as error:
        raise _failure(error) from None
    except TwilioException as error:  # of a list
        raise _failure(_refused_list(error)) from None
    except (ValueError, TypeError, AttributeError, KeyError):  # a success that is not Twilio's JSON
        raise _unavailable("unreadable response") from None


def _refused_list(error: TwilioException) -> TwilioRestException | TwilioServiceException:
    """Return the error that other requests raise: for a list, the library does not parse it."""
    response = error.args[1] if len(error.args) > 1 else Response(500, "")
    return Version.exception("GET", "", response, "Unable to fetch record")


def _failure(
    error: TwilioRestException | TwilioServiceException,
) -> CarrierRejected | CarrierUnavailable:
    if not 400 <= error.status < 500:
        return _unavailable(f"HTTP status {error.status}")
    if isinstance(error, TwilioServiceException):
        return _rejected(error, error.detail or error.title)
    message = re.sub(r"^Unable to (create|fetch|update) \w+(: )?", "", error.msg)
    return _rejected(error, message)


def _rejected(error: TwilioRestException | TwilioServiceException, message: str) -> CarrierRejected:
    code = error.code if isinstance(error.code, int) and error.code else error.status
    said = _EXPLAINED.get(code) or clipped(message, LONGEST_MESSAGE) or "no reason given"
    return CarrierRejected(code, said)


def _unavailable(why: str, *, was_sent: bool = True) -> CarrierUnavailable:
    log.warning("twilio_unavailable", why=why)
    return CarrierUnavailable(why, was_sent=was_sent)


class _QuietHttpClient(HttpClient):
    """Sends the requests of Twilio's client to ``TWILIO_API_URL``.

    Unlike the library's own, it logs nothing (numbers and signed URLs would be logged), keeps no
    request (the token would be in memory), and limits the time of the whole exchange.
    """

    def __init__(self) -> None:
        super().__init__(logging.getLogger(__name__), is_async=False)

    def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        answer = _within_time_limit(
            partial(
                _exchange,
                method,
                settings.TWILIO_API_URL + urlsplit(uri).path,
                params=params,
                data=data,
                headers=headers,
                auth=auth,
            )
        )
        return Response(answer.status_code, answer.text, answer.headers)


def _within_time_limit(exchange: Callable[[], requests.Response]) -> requests.Response:
    """Wait at most ten seconds for the whole response, and convert every failure to ours.

    This uses a thread, since the timeout of requests restarts with every byte that arrives, and
    does not cover the DNS lookup.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="twilio")
    try:
        return thread.submit(exchange).result(TIMEOUT_SECONDS)
    except TimeoutError:
        raise _unavailable("no complete response in time") from None
    except requests.RequestException as error:
        # Only the type: the text of these errors contains the URL, and with it the Account SID.
        why = type(error).__name__
        raise _unavailable(why, was_sent=not _failed_to_connect(error)) from None
    finally:
        thread.shutdown(wait=False)


def _exchange(method: str, url: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        # Do not look for a local stand-in behind the company's proxy.
        session.trust_env = url.startswith("https://")
        return session.request(
            method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options
        )


def _failed_to_connect(error: requests.RequestException) -> bool:
    cause: Any = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        getattr(cause, "reason", None), NewConnectionError
    )
