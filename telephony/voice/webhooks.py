"""What Twilio asks and tells over HTTP, below ``/voice``.

No Twilio credential is known before the customer's backend has answered. So an inbound call's
signature is checked after onCallStart and before anything that costs money or is heard. Every other
URL carries a signature of ours, and while this process holds the call, Twilio's is checked as well.
The call's owner knows the links and the token: nothing that is sent here ends the record of a call
whose media socket is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import structlog
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from core.connections import database_within
from core.outages import cause_of, is_outage
from telephony.db import in_database
from telephony.engine.after_stream import APOLOGY, Dial, Say
from telephony.engine.plan import ACCOUNT_SID
from telephony.links import InvalidLink, call_id_of
from telephony.numbering import caller_id
from telephony.twilio_rest import CALL_SID
from telephony.voice import live, transactions, twiml
from telephony.voice.call_start import (
    Connect,
    Declined,
    Failed,
    Forged,
    Over,
    Transferred,
    ask_backend,
    carry_out,
)
from telephony.voice.gate import gate
from telephony.voice.transactions import ForeignAccount, PendingCall, TurnedAway
from telephony.voice.twilio_form import TwilioForm

# Twilio gives a webhook 15 s. onCallStart has 10 of them, and each visit to the database two: a
# caller who cannot be served hears so soon. The whole ends in time, whatever happens on the way.
_VISIT_WITHIN_S = 2.0
_ANSWERED_WITHIN_S = 14.0

# Twilio sends a webhook again when the connection failed: the second answer must be the first one,
# whose ticket is still unused. Kept for twice the 15 s that Twilio gives a webhook.
_KEEP_ANSWER_S = 30.0
_MOST_KEPT = 10_000
_answers: dict[str, asyncio.Task[HttpResponse]] = {}  # by what was signed

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Answering = Coroutine[Any, Any, HttpResponse]
View = Callable[..., Answering]


def _twilio_view(view: View) -> View:
    """Read Twilio's form, and answer 400 to what is none."""

    @csrf_exempt
    @wraps(view)
    async def wrapped(request: HttpRequest, **kwargs: str) -> HttpResponse:
        if request.method != "POST":
            return _wrong_method(request.method or "")
        form = TwilioForm(
            fields=request.POST,
            path=request.get_full_path(),
            signature=request.headers.get("X-Twilio-Signature", ""),
        )
        if not CALL_SID.fullmatch(form.call_sid):
            return HttpResponse("CallSid is missing or malformed.\n", status=400)
        return await view(form, **kwargs)

    return wrapped


def _wrong_method(method: str) -> HttpResponse:
    """Say what to set right: Twilio's console offers GET as well, and somebody may look here."""
    text = (
        f"This URL takes POST, and this request is a {method}. In the Twilio console, set your "
        "number's voice webhook to HTTP POST.\n"
    )
    response = HttpResponse(text, status=405, content_type="text/plain; charset=utf-8")
    response["Allow"] = "POST"
    return response


def _apologizing(view: View) -> View:
    """Tell the caller, in the place of a view that fails for want of a database, or of time.

    Twilio would say that an application error has occurred, or nothing at all.
    """

    @wraps(view)
    async def wrapped(*args: Any, **kwargs: Any) -> HttpResponse:
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN_S):
                return await view(*args, **kwargs)
        except Exception as error:
            if not isinstance(error, TimeoutError) and not is_outage(error):
                raise
            log.error("caller_told_of_outage", error=cause_of(error))
            return twiml.hang_up(APOLOGY)

    return wrapped


async def _visit(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Query, within ``_VISIT_WITHIN_S``; raise :class:`OperationalError` after that."""
    with database_within(_VISIT_WITHIN_S):
        return await in_database(function, *args, **kwargs)


def _linked(purpose: str) -> Callable[[View], View]:
    """Give the view the call that the URL's token names; answer 403 to any other token."""

    def decorate(view: View) -> View:
        @wraps(view)
        async def wrapped(form: TwilioForm, *, token: str) -> HttpResponse:
            try:
                call_id = call_id_of(purpose, token)
            except InvalidLink:
                return HttpResponse("This link is not valid.\n", status=403)
            if not await _visit(transactions.is_call_of, call_id, form.call_sid):
                return HttpResponse("This link belongs to another call.\n", status=403)
            if (token := live.auth_token_of(call_id)) and not form.is_signed_with(token):
                return HttpResponse("X-Twilio-Signature does not fit.\n", status=403)
            return await view(form, call_id)

        return wrapped

    return decorate


@_twilio_view
@_apologizing
async def inbound(form: TwilioForm) -> HttpResponse:
    """``POST /voice``: somebody rings a registered number."""
    if not ACCOUNT_SID.fullmatch(form.account_sid) or not form.called:
        return HttpResponse("AccountSid or To is missing or malformed.\n", status=400)
    if not form.signature:
        return HttpResponse("X-Twilio-Signature is missing.\n", status=403)
    return await _once(form, _answer_inbound(form), refusal=twiml.reject("busy"))


@_twilio_view
@_apologizing
@_linked("answer")
async def answered(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/answer/<token>``: a call that we placed has been answered."""
    return await _once(form, _answer_outbound(form, call_id), refusal=twiml.hang_up())


@_twilio_view
@_linked("status")
async def status_changed(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/status/<token>``: a call that we placed rings, or has ended."""
    await _visit(transactions.outbound_status, call_id, form)
    return HttpResponse(status=204)


@_twilio_view
@_linked("stream")
async def stream_changed(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/stream/<token>``: the media stream has started, stopped or failed."""
    await _visit(transactions.stream_status, call_id, form)
    return HttpResponse(status=204)


@_twilio_view
@_apologizing
@_linked("after")
async def after_stream(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/after/<token>``: the media stream is closed, what now?"""
    match await _visit(transactions.after_stream, call_id):
        case Say(text):
            return twiml.hang_up(text)
        case Dial(to, shown):
            return twiml.dial(to, shown or "")
        case None:
            return twiml.hang_up()


async def _once(form: TwilioForm, answering: Answering, *, refusal: HttpResponse) -> HttpResponse:
    """Answer a webhook and its repetition alike, and go on if Twilio hangs up meanwhile.

    :param refusal: what it is told if this engine is about to stop and there is no other one.
    """
    task = _answers.get(form.digest)
    if task is None and (refused := gate.refusal(refusal)):
        answering.close()
        return refused
    if task is None:
        task = asyncio.ensure_future(answering)
        gate.answering(task)
        if len(_answers) < _MOST_KEPT:
            _answers[form.digest] = task
            task.add_done_callback(partial(_keep_answer, form.digest))
    else:
        answering.close()
    response = await asyncio.shield(task)
    return HttpResponse(
        response.content, status=response.status_code, headers=dict(response.headers)
    )


def _keep_answer(digest: str, task: asyncio.Task[HttpResponse]) -> None:
    """Keep an answer for Twilio's repetition; a failure is none, and the repetition may succeed."""
    if task.cancelled() or task.exception() is not None:
        _answers.pop(digest, None)
    else:
        asyncio.get_running_loop().call_later(_KEEP_ANSWER_S, _answers.pop, digest, None)


async def _answer_inbound(form: TwilioForm) -> HttpResponse:
    try:
        received = await _visit(transactions.receive_inbound, form)
    except ForeignAccount:
        text = "This number is bound to another Twilio account.\n"
        return HttpResponse(text, status=403)
    if isinstance(received, TurnedAway):
        return twiml.reject(received.word)
    return await _start(form, received)


async def _answer_outbound(form: TwilioForm, call_id: str) -> HttpResponse:
    received = await _visit(transactions.receive_answer, call_id, form)
    if received is None:
        return twiml.hang_up()
    return await _start(form, received)


@sensitive_variables()
async def _start(form: TwilioForm, pending: PendingCall) -> HttpResponse:
    """Ask the customer's backend, do what it wants, and say so in TwiML."""
    answer = await ask_backend(pending)
    start = await _visit(carry_out, pending.call, answer, form)
    match start:
        case Connect():
            gate.gave_ticket(start.call.id, start.valid_for)
            return twiml.connect(start.call.id, start.ticket, start.greeting_url)
        case Transferred():
            shown = caller_id(start.call.caller_phone, start.call.called_number)
            return twiml.dial(start.to, shown)
        case Declined() if start.message:
            return twiml.hang_up(start.message)
        case Declined():
            return _turn_away(pending, start.reason)
        case TurnedAway():
            return _turn_away(pending, start.word)
        case Failed():
            return _turn_away(pending, "rejected")
        case Forged():
            return HttpResponse(f"{start.message}\n", status=403)
        case Over():
            return twiml.hang_up()


def _turn_away(pending: PendingCall, word: str) -> HttpResponse:
    """Reject a call that rings, hang up one that was answered."""
    return twiml.hang_up() if pending.is_answered else twiml.reject(word)
