"""Client for Twilio's REST API, with a customer's credentials."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

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
_LONGEST_SID = 34
# The number of a page, and Twilio's token for it.
CURSOR = re.compile(r"[0-9]{1,6}-[0-9A-Za-z]{1,100}")
ACCOUNT_SID_RULE = "Use the Account SID: AC and 32 hex digits."


@dataclass(frozen=True, slots=True)
class TwilioCredentials:
    account_sid: str
    auth_token: str = field(repr=False)

    @sensitive_variables()
    def as_fields(self) -> dict[str, str]:
        """Return the values by the names of their fields, to check them."""
        return {
            "twilio_account_sid": self.account_sid,
            "twilio_auth_token": self.auth_token,
        }


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
    20429: "Twilio is receiving too many requests for this account. Try again in a minute.",
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


@dataclass(frozen=True, slots=True)
class TwilioNumber:
    """A number as Twilio has it. Absent texts are ``""``.

    Twilio ignores the voice webhook while the number has an application or a trunk.
    """

    sid: str
    phone_number: str
    name: str
    voice_url: str
    voice_method: str
    application_sid: str
    trunk_sid: str
    can_voice: bool

    @property
    def ignores_webhook(self) -> bool:
        return bool(self.application_sid or self.trunk_sid)

    def points_to(self, voice_url: str) -> bool:
        """Return True if Twilio posts the number's calls to the URL."""
        webhook = (self.voice_method.upper(), self.voice_url)
        return not self.ignores_webhook and webhook == ("POST", voice_url)


@dataclass(frozen=True, slots=True)
class TwilioPage:
    """A page of an account's numbers; ``after`` is the cursor of the next one, "" for none."""

    numbers: list[TwilioNumber]
    after: str


@sensitive_variables()
def twilio_numbers(
    credentials: TwilioCredentials, *, size: int, after: str = "", phone_number: str = ""
) -> TwilioPage:
    """Return a page of the account's numbers. Raises as :func:`place_call`.

    :param after: the cursor from the page before, see :data:`CURSOR`.
    :param phone_number: only numbers that contain these digits.
    """
    page_number, _, page_token = after.partition("-")

    def question(client: Client) -> TwilioPage:
        page = client.incoming_phone_numbers.page(
            phone_number=phone_number or unset,
            page_number=page_number or unset,
            page_token=page_token or unset,
            page_size=size,
        )
        return TwilioPage([_as_number(each) for each in page], _cursor(page.next_page_url))

    return _ask(credentials, question)


@sensitive_variables()
def twilio_number(credentials: TwilioCredentials, phone_number: str) -> TwilioNumber | None:
    """Return the account's record of a number, in E.164; None if it does not have the number.

    Raises as :func:`place_call`.
    """
    found = _ask(
        credentials,
        lambda client: client.incoming_phone_numbers.list(phone_number=phone_number, limit=20),
    )
    return next((_as_number(each) for each in found if each.phone_number == phone_number), None)


@sensitive_variables()
def point_number(credentials: TwilioCredentials, number: TwilioNumber, *, voice_url: str) -> None:
    """Have Twilio post the number's calls to the URL, and take away its application and trunk.

    Raises as :func:`place_call`.
    """
    removed: dict[str, Any] = {}
    if number.application_sid:
        removed["voice_application_sid"] = ""
    if number.trunk_sid:
        removed["trunk_sid"] = ""
    changed = _ask(
        credentials,
        lambda client: client.incoming_phone_numbers(number.sid).update(
            voice_url=voice_url, voice_method="POST", **removed
        ),
    )
    if not _as_number(changed).points_to(voice_url):
        raise _unavailable("a number that does not point where it was told")


def _as_number(record: Any) -> TwilioNumber:
    can = record.capabilities if isinstance(record.capabilities, dict) else {}
    return TwilioNumber(
        sid=clipped(record.sid, _LONGEST_SID),
        phone_number=clipped(record.phone_number, 16),
        name=clipped(record.friendly_name, 64),
        voice_url=clipped(record.voice_url, 2000),
        voice_method=clipped(record.voice_method, 8),
        application_sid=clipped(record.voice_application_sid, _LONGEST_SID),
        trunk_sid=clipped(record.trunk_sid, _LONGEST_SID),
        # Numbers that only send messages can be hosted at Twilio, while calls go elsewhere.
        can_voice=can.get("voice", True) is not False,
    )


def _cursor(next_page_url: str | None) -> str:
    query = dict(parse_qsl(urlsplit(next_page_url or "").query))
    cursor = f"{query.get('Page', '')}-{query.get('PageToken', '')}"
    return cursor if CURSOR.fullmatch(cursor) else ""


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
                settings.TWILIO_API_URL + urlsplit(uri)._replace(scheme="", netloc="").geturl(),
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
