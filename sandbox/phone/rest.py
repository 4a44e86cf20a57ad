"""Twilio's REST API for calls."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import BasicAuth, web

from sandbox.phone.call import API_VERSION, Call, timestamp
from sandbox.phone.exchange import Phone
from sandbox.phone.identity import CarrierAccount, is_phone_number
from sandbox.phone.outbound import Order

# Prices per started minute, and how long after a call's end its price is known.
_PRICE_PER_MINUTE = {"inbound": 0.0085, "outbound-api": 0.014}
_PRICED_AFTER_S = 60.0
_EVENTS = ("initiated", "ringing", "answered", "completed")
# Twilio's own magic numbers: https://www.twilio.com/docs/iam/test-credentials
_MAGIC_TO = {
    "+15005550001": (21217, "Phone number: {} is invalid."),
    "+15005550002": (21214, "The phone number you are attempting to call, {}, cannot be reached."),
    "+15005550003": (21215, "Account not authorized to call {}."),
    "+15005550004": (21216, "Account not allowed to call {}."),
}
_NOT_A_CALLER_ID = "+15005550001"


class RestError(Exception):
    """An error response in Twilio's format."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(message)

    def response(self) -> web.Response:
        body = {
            "code": self.code,
            "message": self.message,
            "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
            "status": self.status,
        }
        return web.json_response(body, status=self.status)


def add_routes(app: web.Application, phone: Phone, *, prefix: str = "/twilio") -> None:
    """Serve the API below the prefix."""
    api = _CallsApi(phone)
    calls = f"{prefix}/{API_VERSION}/Accounts/{{account_sid}}/Calls"
    app.router.add_post(f"{calls}.json", api.create)
    app.router.add_get(f"{calls}/{{call_sid}}.json", api.fetch)
    app.router.add_post(f"{calls}/{{call_sid}}.json", api.update)
    numbers = f"{prefix}/{API_VERSION}/Accounts/{{account_sid}}/IncomingPhoneNumbers.json"
    app.router.add_get(numbers, api.list_numbers)


class _CallsApi:
    def __init__(self, phone: Phone) -> None:
        self._phone = phone

    async def create(self, request: web.Request) -> web.Response:
        try:
            account = self._authenticate(request)
            order = _order(await request.post())
        except RestError as error:
            return error.response()
        call = self._phone.place(order, account=account)
        return web.json_response(resource(call), status=201)

    async def fetch(self, request: web.Request) -> web.Response:
        try:
            call = self._find(request, self._authenticate(request))
        except RestError as error:
            return error.response()
        return web.json_response(resource(call))

    async def update(self, request: web.Request) -> web.Response:
        try:
            call = self._find(request, self._authenticate(request))
            self._change(call, await request.post())
        except RestError as error:
            return error.response()
        return web.json_response(resource(call))

    async def list_numbers(self, request: web.Request) -> web.Response:
        """List the account's numbers: any number that is asked for, unless they are configured."""
        try:
            account = self._authenticate(request)
        except RestError as error:
            return error.response()
        asked = request.query.get("PhoneNumber", "")
        is_own = (
            is_phone_number(asked) and self._phone.owners.get(asked, account.sid) == account.sid
        )
        return web.json_response(
            {
                "incoming_phone_numbers": [_number(account, asked)] if is_own else [],
                "first_page_uri": str(request.rel_url),
                "next_page_uri": None,
                "page": 0,
                "page_size": 50,
            }
        )

    def _change(self, call: Call, form: Mapping[str, Any]) -> None:
        if call.is_over:
            raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        match form.get("Status"):
            case "completed":
                call.hang_up(by="api")
            case "canceled":
                if not call.is_answered:
                    call.hang_up(by="api")
            case None | "":
                self._redirect(call, form)
            case status:
                raise RestError(400, 21220, f"Invalid CallStatus: {status}")

    def _redirect(self, call: Call, form: Mapping[str, Any]) -> None:
        url, twiml = str(form.get("Url", "")), str(form.get("Twiml", ""))
        if not (url or twiml):
            return
        if not call.is_answered:
            raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        if not twiml:
            _check_url("Url", url)
        method = str(form.get("Method") or "POST")
        self._phone.redirect(call, url=url, method=method, twiml=twiml)

    def _authenticate(self, request: web.Request) -> CarrierAccount:
        refusal = RestError(401, 20003, "Authenticate")
        try:
            login = BasicAuth.decode(request.headers["Authorization"])
        except (KeyError, ValueError):
            raise refusal from None
        account = self._phone.accounts.authenticate(login.login, login.password)
        if account is None or account.sid != request.match_info["account_sid"]:
            raise refusal
        return account

    def _find(self, request: web.Request, account: CarrierAccount) -> Call:
        call = self._phone.calls.get(request.match_info["call_sid"])
        if call is None or call.account != account:
            path = request.path[request.path.index(f"/{API_VERSION}/") :]
            raise RestError(404, 20404, f"The requested resource {path} was not found")
        return call


def _number(account: CarrierAccount, phone_number: str) -> dict[str, Any]:
    sid = "PN" + hashlib.md5(phone_number.encode(), usedforsecurity=False).hexdigest()
    return {"sid": sid, "account_sid": account.sid, "phone_number": phone_number}


def _order(form: Any) -> Order:
    """Parse the form of a new call; raise :class:`RestError` as Twilio does."""

    def value(name: str, default: str = "") -> str:
        return str(form.get(name) or default)

    _check_numbers(value("To"), value("From"))
    if not value("Twiml"):
        _check_url("Url", value("Url"))
    if callback := value("StatusCallback"):
        _check_url("StatusCallback", callback)
    events = tuple(form.getall("StatusCallbackEvent", ())) or ("completed",)
    if unknown := set(events) - set(_EVENTS):
        raise RestError(400, 21626, f"StatusCallbackEvent {sorted(unknown)[0]} is not supported")
    detection = value("MachineDetection")
    if detection not in ("", "Enable", "DetectMessageEnd"):
        raise RestError(400, 20001, f"MachineDetection {detection} is not valid")
    timeout = value("Timeout", "60")
    if not timeout.isdigit() or not 1 <= int(timeout) <= 600:
        raise RestError(400, 21208, f"Timeout {timeout} is not valid")
    return Order(
        to=value("To"),
        from_=value("From"),
        url=value("Url"),
        method=value("Method", "POST"),
        twiml=value("Twiml"),
        timeout=float(timeout),
        machine_detection=detection,
        status_callback=callback,
        status_callback_method=value("StatusCallbackMethod", "POST"),
        status_callback_events=events,
    )


def _check_numbers(to: str, from_: str) -> None:
    if not to:
        raise RestError(400, 21201, "No 'To' number is specified")
    if not from_:
        raise RestError(400, 21213, "No 'From' number is specified")
    if not is_phone_number(to) or to == from_:
        raise RestError(
            400, 21211, f"The phone number you are attempting to call, {to}, is not valid."
        )
    if not is_phone_number(from_) or from_ == _NOT_A_CALLER_ID:
        raise RestError(400, 21212, f"The source phone number provided, {from_}, is not valid.")
    if to in _MAGIC_TO:
        code, message = _MAGIC_TO[to]
        raise RestError(400, code, message.format(to))


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RestError(400, 21205, f"{name} is not a valid URL: {url}")


def resource(call: Call, *, priced_after: float = _PRICED_AFTER_S) -> dict[str, Any]:
    """Return the Call resource, as Twilio's libraries read it.

    :param priced_after: seconds after the call's end until its price is known.
    """
    uri = f"/{API_VERSION}/Accounts/{call.account.sid}/Calls/{call.sid}"
    is_charged = call.is_over and call.is_answered
    is_priced = is_charged and call.seconds_since_end >= priced_after
    return {
        "sid": call.sid,
        "account_sid": call.account.sid,
        "parent_call_sid": None,
        "phone_number_sid": None,
        "to": call.to,
        "to_formatted": _formatted(call.to),
        "from": call.from_,
        "from_formatted": _formatted(call.from_),
        "status": call.status,
        "direction": call.direction,
        "answered_by": call.answered_by or None,
        "date_created": timestamp(call.created_at),
        "date_updated": timestamp(call.ended_at or call.answered_at or call.created_at),
        "start_time": timestamp(call.answered_at) if call.answered_at else None,
        "end_time": timestamp(call.ended_at) if call.ended_at else None,
        "duration": str(call.duration) if is_charged else None,
        "price": _price(call) if is_priced else None,
        "price_unit": "USD",
        "api_version": API_VERSION,
        "annotation": None,
        "forwarded_from": None,
        "group_sid": None,
        "caller_name": None,
        "queue_time": "0",
        "trunk_sid": None,
        "uri": f"{uri}.json",
        "subresource_uris": {
            "notifications": f"{uri}/Notifications.json",
            "recordings": f"{uri}/Recordings.json",
        },
    }


def _price(call: Call) -> str:
    minutes = math.ceil(call.duration / 60)
    return f"{-_PRICE_PER_MINUTE[call.direction] * minutes:.5f}"


def _formatted(number: str) -> str:
    if number.startswith("+1") and len(number) == 12:
        return f"({number[2:5]}) {number[5:8]}-{number[8:]}"
    return number
