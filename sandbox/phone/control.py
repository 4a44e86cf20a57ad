"""The phone's own API: place a call to a number, wait for a call, and watch it.

``POST /phone/calls`` and ``GET /phone/calls/{sid}/events`` stream the call while it runs, one JSON
object per line: ``at`` (seconds), ``kind`` and the event's details; the last one is ``ended``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, get_args

from aiohttp import ClientConnectionResetError, web

from sandbox.phone.call import Call
from sandbox.phone.callees import Answers, Callee
from sandbox.phone.exchange import ANY_CALLER, Phone
from sandbox.phone.identity import CarrierAccount, is_account_sid, is_phone_number
from sandbox.phone.journal import Event
from sandbox.phone.person import ScriptError, parse_script
from sandbox.speech import write_wav


class BadRequest(ValueError):
    """The request cannot be carried out; the message says why."""


def add_routes(app: web.Application, phone: Phone, *, prefix: str = "/phone") -> None:
    """Serve the API below the prefix."""
    control = _Control(phone)
    app.router.add_post(f"{prefix}/calls", control.ring)
    app.router.add_get(f"{prefix}/calls/{{sid}}/events", control.events)
    app.router.add_get(f"{prefix}/calls/{{sid}}/recording", control.recording)
    app.router.add_post(f"{prefix}/calls/{{sid}}/hangup", control.hang_up)
    app.router.add_put(f"{prefix}/callees/{{number}}", control.put_callee)


def as_json(event: Event) -> dict[str, Any]:
    return {"at": event.at, "kind": event.kind, **event.detail}


class _Control:
    def __init__(self, phone: Phone) -> None:
        self._phone = phone

    async def ring(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await _body(request)
            call = self._phone.ring(
                to=_number(body, "to"),
                from_=_number(body, "from", default=ANY_CALLER),
                script=parse_script(body.get("script", [])),
                hang_up_after=_seconds(body, "hangUpAfter"),
                account=_account(body),
                voice_url=str(body.get("voiceUrl") or ""),
            )
        except (BadRequest, ScriptError) as error:
            return _refusal(400, str(error))
        return await _stream(request, call)

    async def events(self, request: web.Request) -> web.StreamResponse:
        call = self._find(request)
        return await _stream(request, call) if call else _no_such_call()

    async def recording(self, request: web.Request) -> web.StreamResponse:
        if (call := self._find(request)) is None:
            return _no_such_call()
        file = io.BytesIO()
        write_wav(file, call.line.caller_track, call.line.agent_track)
        return web.Response(body=file.getvalue(), content_type="audio/wav")

    async def hang_up(self, request: web.Request) -> web.StreamResponse:
        """Hang up as the person; does nothing if the call has ended."""
        if (call := self._find(request)) is None:
            return _no_such_call()
        call.person.hang_up()
        return web.Response(status=204)

    async def put_callee(self, request: web.Request) -> web.StreamResponse:
        """Set the callee of a number, and what they do."""
        number = request.match_info["number"]
        try:
            body = await _body(request)
            if not is_phone_number(number):
                raise BadRequest(f"{number} is no number in E.164.")
            answers = body.get("answers", "human")
            if answers not in get_args(Answers):
                raise BadRequest(f"answers must be one of {', '.join(get_args(Answers))}.")
            rings_for = _seconds(body, "ringsFor")
            callee = Callee(answers, 1.0 if rings_for is None else rings_for)
            if "script" in body:
                script = tuple(parse_script(body["script"]))
                callee = Callee(answers, callee.rings_for, script)
        except (BadRequest, ScriptError) as error:
            return _refusal(400, str(error))
        self._phone.directory.put(number, callee)
        return web.Response(status=204)

    def _find(self, request: web.Request) -> Call | None:
        return self._phone.calls.get(request.match_info["sid"])


async def _stream(request: web.Request, call: Call) -> web.StreamResponse:
    """Stream the call's events. A client that placed a call hangs up when it disconnects."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        async for event in call.journal.follow():
            await response.write(json.dumps(as_json(event)).encode() + b"\n")
    except ClientConnectionResetError:
        if request.method == "POST":
            call.person.hang_up()
        raise
    return response


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise BadRequest("Send JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("Send a JSON object.")
    return body


def _number(body: Mapping[str, Any], name: str, default: str = "") -> str:
    number = body.get(name) or default
    if not isinstance(number, str) or not is_phone_number(number):
        raise BadRequest(f"{name} must be a number in E.164, like +15551234567.")
    return number


def _seconds(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadRequest(f"{name} must be a number of seconds.")
    return float(value)


def _account(body: Mapping[str, Any]) -> CarrierAccount | None:
    """Return the account to call for, or None for the one that has the number."""
    sid, token = body.get("accountSid"), body.get("authToken")
    if not (sid or token):
        return None
    if not (isinstance(sid, str) and is_account_sid(sid) and isinstance(token, str)):
        raise BadRequest("accountSid must be AC and 32 hex digits, authToken a text.")
    return CarrierAccount(sid, token)


def _no_such_call() -> web.Response:
    return _refusal(404, "There is no such call.")


def _refusal(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
