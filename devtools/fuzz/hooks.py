"""Schemathesis's hooks, for what a valid request needs and a schema cannot express.

A password must not be guessable. A limit is in whole cents. A number exists, and its proof is
absent or valid. Twilio accepts the credentials of an account. A list begins at a cursor or at an
offset. A call goes from one of the account's numbers to one that may be called, with
credentials that the carrier knows. Only a call in progress can be hung up. Deliberately invalid
requests are not changed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Any

import requests
import schemathesis
from django.contrib.auth.password_validation import CommonPasswordValidator
from schemathesis.core.parameters import ParameterLocation

from devtools.fuzz.customers import CUSTOMER, PASSWORD
from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN

Body = dict[str, Any]

TIMEOUT_S = 20
LONGEST_EMAIL = 254
EMAIL = f"{CUSTOMER}@example.com"
UNLIKE_OTHERS = "a long walk in the rain"
CREDENTIALS = {"twilioAccountSid": SANDBOX_ACCOUNT_SID, "twilioAuthToken": SANDBOX_AUTH_TOKEN}
# In the sandbox, the last digits of a number decide how a call ends.
DOES_NOT_ANSWER = "+12025550002"
CALLEES = [DOES_NOT_ANSWER, "+12025550001", "+12025550003", "+12025550100"]  # busy, fails, answers

_is_common = CommonPasswordValidator().passwords.__contains__
_serial = itertools.count(1)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    label = case.operation.label
    if label in BODIES and isinstance(case.body, dict) and is_valid(case, ParameterLocation.BODY):
        case.body = BODIES[label](case.body)
    if label == LIST_CALLS and "cursor" in case.query and is_valid(case, ParameterLocation.QUERY):
        case.query = {name: value for name, value in case.query.items() if name != "offset"}
    if label == HANG_UP and is_valid(case, ParameterLocation.PATH) and next(_serial) % 2:
        case.path_parameters = {"id": call_that_is_on()}
    if label == RESEND and is_valid(case, ParameterLocation.PATH):
        case.path_parameters = {"id": a_delivery() or case.path_parameters["id"]}


def is_valid(case: Any, location: ParameterLocation) -> bool:
    return case.meta is None or not case.meta.is_negative_at(location)


def registration(body: Body) -> Body:
    """Give each account a unique email address and a password that cannot be guessed."""
    email = f"{next(_serial)}.{body['email']}"
    email = email if len(email) <= LONGEST_EMAIL else body["email"]
    password = body["password"]
    if any(_is_like(password, text) for text in (*email.split("@"), body.get("companyName") or "")):
        password = UNLIKE_OTHERS
    elif _is_common(password.lower()) or len(set(password.strip())) < 4:
        password = f"{password[:900]}, {next(_serial)} walks"
    return {**body, "email": email, "password": password}


def _is_like(one: str, other: str) -> bool:
    """Return True if two texts may be too similar; the product checks more precisely."""
    one, other = _plain(one), _plain(other)
    return bool(other) and SequenceMatcher(None, one, other).quick_ratio() > 0.5


def _plain(text: str) -> str:
    """Return the beginning of what the product compares."""
    return "".join(filter(str.isalnum, text.casefold()))[:100]


def login(body: Body) -> Body:
    """Sign in as the run's customer every second time: generated accounts do not exist."""
    return {"email": EMAIL, "password": PASSWORD} if next(_serial) % 2 else body


def number(body: Body) -> Body:
    """Register a number of the sandbox: most numbers of the right format do not exist.

    The proof is one that the sandbox's carrier accepts, or absent.
    """
    is_proven = any(body.get(name) for name in CREDENTIALS)
    return _of_the_sandbox(body) | (CREDENTIALS if is_proven else dict.fromkeys(CREDENTIALS))


def twilio_account(body: Body) -> Body:
    """Use the sandbox's Twilio account: nobody knows the credentials of another."""
    return body | CREDENTIALS


def connection(body: Body) -> Body:
    """Connect a number of the sandbox; a new one needs the URLs that its owner may leave out."""
    urls = {name: url for name, url in callback_urls().items() if not body.get(name)}
    return twilio_account(_of_the_sandbox(body) | urls)


def _of_the_sandbox(body: Body) -> Body:
    return body | {"phoneNumber": _fictional(int(body["phoneNumber"][-7:]))}


def _fictional(number: int) -> str:
    return f"+1555{number:07}"


def outbound_call(body: Body) -> Body:
    """Place the call within the sandbox: nobody else is called, and no callback goes elsewhere.

    Each call has a caller number of its own, because earlier requests have removed some.
    """
    serial = next(_serial)
    number = _fictional(serial)
    _ask("POST", "/api/phone-numbers", {"phoneNumber": number, **callback_urls()})
    metadata = {"metadata": without_nul(body["metadata"])} if "metadata" in body else {}
    return {**body, **metadata, **order(number, CALLEES[serial % len(CALLEES)])}


def spending_limit(body: Body) -> Body:
    """Use whole cents, which JSON Schema cannot require: no fraction of ten is exact in binary."""
    limit = body["monthlyLimit"]
    return {**body, "monthlyLimit": limit and round(limit, 2)}


def order(number: str, callee: str) -> Body:
    """Return the body with which the sandbox places a call."""
    return {
        "from": number,
        "to": callee,
        **CREDENTIALS,
        **callback_urls(),
    }


def callback_urls() -> Body:
    backend = f"{os.environ['ISOLATED_SANDBOX_URL']}/backend"
    return {
        "onCallStartUrl": f"{backend}/calls/start",
        "onCallEndUrl": f"{backend}/calls/end",
        "onErrorUrl": f"{backend}/calls/error",
    }


def without_nul(value: Any) -> Any:
    """Return JSON without the character NUL, which a schema for any JSON cannot exclude."""
    match value:
        case str():
            return value.replace("\0", "")
        case list():
            return [without_nul(item) for item in value]
        case dict():
            return {without_nul(name): without_nul(item) for name, item in value.items()}
    return value


def call_that_is_on() -> str:
    """Return the id of a call in progress; place one if there is none."""
    if calls := _ask("GET", "/api/calls?live=true&limit=1")["calls"]:
        return str(calls[0]["id"])
    return str(_ask("POST", "/api/outbound", outbound_call({}) | {"to": DOES_NOT_ANSWER})["id"])


def a_delivery() -> str | None:
    """Return the id of a delivery, ended or not; None before the first call."""
    found = _ask("GET", "/api/deliveries?limit=1")["deliveries"]
    return str(found[0]["id"]) if found else None


def _ask(method: str, path: str, body: Body | None = None) -> Any:
    """Send a request as the run's customer, which is neither counted nor checked."""
    response = requests.request(
        method,
        os.environ["ISOLATED_URL"] + path,
        json=body,
        headers={"Authorization": f"Bearer {os.environ['FUZZ_TOKEN']}"},
        timeout=TIMEOUT_S,
    )
    response.raise_for_status()
    return response.json()


LIST_CALLS = "GET /api/calls"
HANG_UP = "POST /api/calls/{id}/hangup"
RESEND = "POST /api/deliveries/{id}/resend"
BODIES: dict[str, Callable[[Body], Body]] = {
    "PUT /api/billing/spending-limit": spending_limit,
    "POST /api/auth/register": registration,
    "POST /api/auth/login": login,
    "POST /api/outbound": outbound_call,
    "POST /api/phone-numbers": number,
    "POST /api/phone-numbers/connect": connection,
    "POST /api/phone-numbers/twilio": twilio_account,
}
