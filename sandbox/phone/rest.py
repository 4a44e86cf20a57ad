"""Twilio's REST API for calls and for phone numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import BasicAuth, web

from sandbox.phone.call import API_VERSION, Call, timestamp
from sandbox.phone.exchange import Phone
from sandbox.phone.identity import CarrierAccount, is_phone_number
from sandbox.phone.numbers import Number
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
# The voice webhook of a number that was just bought.
_WELCOME_URL = "https://demo.twilio.com/welcome/voice/"
# Of a list: numbers on a page, unless PageSize says otherwise, and the most that it may say.
_PAGE_SIZE = 50
_LARGEST_PAGE = 1000
# The fields of a number that can be changed, by their names in a request.
_CHANGEABLE = {
    "FriendlyName": "friendly_name",
    "VoiceUrl": "voice_url",
    "VoiceMethod": "voice_method",
    "VoiceApplicationSid": "voice_application_sid",
    "TrunkSid": "trunk_sid",
}


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
    api = _Api(phone)
    calls = f"{prefix}/{API_VERSION}/Accounts/{{account_sid}}/Calls"
    app.router.add_post(f"{calls}.json", api.create)
    app.router.add_get(f"{calls}/{{call_sid}}.json", api.fetch)
    app.router.add_post(f"{calls}/{{call_sid}}.json", api.update)
    numbers = f"{prefix}/{API_VERSION}/Accounts/{{account_sid}}/IncomingPhoneNumbers"
    app.router.add_get(f"{numbers}.json", api.list_numbers)
    app.router.add_get(f"{numbers}/{{number_sid}}.json", api.fetch_number)
    app.router.add_post(f"{numbers}/{{number_sid}}.json", api.update_number)


class _Api:
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
        """List the account's numbers in pages."""
        try:
            account = self._authenticate(request)
        except RestError as error:
            return error.response()
        query = request.query
        found = self._phone.numbers.listed(
            account.sid, query.get("PhoneNumber", ""), query.get("FriendlyName", "")
        )
        return web.json_response(_page_of_numbers(request, found))

    async def fetch_number(self, request: web.Request) -> web.Response:
        try:
            number = self._find_number(request, self._authenticate(request))
        except RestError as error:
            return error.response()
        return web.json_response(number_resource(number))

    async def update_number(self, request: web.Request) -> web.Response:
        """Change a number, which from then on belongs to this account alone."""
        try:
            number = self._find_number(request, self._authenticate(request))
            _change_number(number, await request.post())
        except RestError as error:
            return error.response()
        return web.json_response(number_resource(self._phone.numbers.give(number)))

    def _find_number(self, request: web.Request, account: CarrierAccount) -> Number:
        number = self._phone.numbers.with_sid(account.sid, request.match_info["number_sid"])
        if number is None:
            raise _not_found(request)
        return number

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
            raise _not_found(request)
        return call


def _not_found(request: web.Request) -> RestError:
    return RestError(404, 20404, f"The requested resource {_path(request)} was not found")


def _path(request: web.Request) -> str:
    """Return the path of a request as it is at Twilio, which has no prefix."""
    return request.path[request.path.index(f"/{API_VERSION}/") :]


def _page_of_numbers(request: web.Request, numbers: list[Number]) -> dict[str, Any]:
    page = _whole(request.query.get("Page"), 0)
    size = max(1, min(_whole(request.query.get("PageSize"), _PAGE_SIZE), _LARGEST_PAGE))
    start, end = page * size, min((page + 1) * size, len(numbers))
    filters = {
        name: value
        for name, value in request.query.items()
        if name not in ("Page", "PageSize", "PageToken")
    }

    def uri(page: int, place: str = "") -> str:
        query = {**filters, "PageSize": size, "Page": page}
        return f"{_path(request)}?{urlencode(query | ({'PageToken': place} if place else {}))}"

    return {
        "incoming_phone_numbers": [number_resource(number) for number in numbers[start:end]],
        "first_page_uri": uri(0),
        "next_page_uri": uri(page + 1, f"PA{numbers[end - 1].sid}") if end < len(numbers) else None,
        "previous_page_uri": uri(page - 1, f"PB{numbers[start].sid}") if 0 < start < end else None,
        "page": page,
        "page_size": size,
        "start": start,
        "end": max(start, end - 1),
        "uri": uri(page),
    }


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else default


def _change_number(number: Number, form: Mapping[str, Any]) -> None:
    """Change what the form names. A trunk replaces an application, and the other way round."""
    url, method = str(form.get("VoiceUrl", "")), str(form.get("VoiceMethod", "POST"))
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise RestError(400, 21502, f"VoiceUrl is not valid: {url}")
    if method not in ("GET", "POST"):
        raise RestError(400, 21403, f"VoiceMethod is not valid: {method}")
    for name, field in _CHANGEABLE.items():
        if name in form:
            setattr(number, field, str(form[name]))
    if form.get("TrunkSid"):
        number.voice_application_sid = ""
    elif form.get("VoiceApplicationSid"):
        number.trunk_sid = ""
    number.changed_at = datetime.now(UTC)


def number_resource(number: Number) -> dict[str, Any]:
    """Return the IncomingPhoneNumber resource, as Twilio's libraries read it."""
    uri = f"/{API_VERSION}/Accounts/{number.account_sid}/IncomingPhoneNumbers/{number.sid}"
    changed = number.changed_at.strftime("%a, %d %b %Y %H:%M:%S +0000")
    return {
        "sid": number.sid,
        "account_sid": number.account_sid,
        "phone_number": number.phone_number,
        "friendly_name": number.friendly_name or _formatted(number.phone_number),
        "api_version": API_VERSION,
        "beta": False,
        "capabilities": {"voice": number.can_voice, "sms": True, "mms": True, "fax": False},
        "date_created": changed,
        "date_updated": changed,
        "origin": "twilio",
        "status": "in-use",
        "status_callback": "",
        "status_callback_method": "POST",
        "trunk_sid": number.trunk_sid or None,
        "voice_application_sid": number.voice_application_sid or None,
        "voice_caller_id_lookup": False,
        "voice_fallback_method": "POST",
        "voice_fallback_url": None,
        "voice_method": number.voice_method,
        "voice_receive_mode": "voice",
        "voice_url": number.voice_url or _WELCOME_URL,
        "sms_url": "",
        "uri": f"{uri}.json",
    }


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
