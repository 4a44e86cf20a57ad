"""Twilio's webhooks, below ``/voice``.

Switchhook knows no Twilio credentials before the customer's backend has responded. So an inbound
call's signature is checked after onCallStart and before anything that costs money or that the
caller hears. Every other URL carries a signature of ours, and while this process holds the call,
Twilio's signature is checked as well. The call's owner knows the links and the token: no request to
them ends the record of a call whose media socket is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from time import monotonic
from typing import Any, ParamSpec, TypeVar

import structlog
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from structlog.contextvars import bind_contextvars

from core.connections import database_within, run_again_if_cut
from core.observers import tell
from core.outages import cause_of, is_outage
from telephony.call_log import bind_call
from telephony.db import in_database
from telephony.engine.after_stream import APOLOGY, Dial, Say
from telephony.engine.plan import ACCOUNT_SID
from telephony.facts import WebhookAnswered
from telephony.links import InvalidLink, call_id_of
from telephony.models import Call
from telephony.numbering import caller_id
from telephony.twilio_rest import CALL_SID
from telephony.voice import live, transactions, twiml
from telephony.voice.call_start import (
    AlreadyEnded,
    Connect,
    Declined,
    Failed,
    Forged,
    Transferred,
    ask_backend,
    carry_out,
)
from telephony.voice.drain_state import drain_state
from telephony.voice.handover import conversation_key
from telephony.voice.transactions import ForeignAccount, PendingCall, Rejected
from telephony.voice.twilio_form import TwilioForm
from telephony.voice.warm_sockets import warm_sockets

# Twilio's limit for a webhook is 15 s. onCallStart may take 10 of them, and the visit to the
# database before it three, so that a caller who cannot be served is told early. Other visits may
# take what is left: a conversation that is to go on is worth waiting for. The whole must end in
# time, whatever happens on the way.
_VISIT_WITHIN_S = 3.0
_ALL_VISITS_WITHIN_S = 13.5
_ANSWERED_WITHIN_S = 14.0

# Twilio retries a webhook when the connection failed. The second response must equal the first,
# whose ticket is still unused. Responses are kept for twice Twilio's limit of 15 s.
_KEEP_ANSWER_S = 30.0
_MOST_KEPT = 10_000
_answers: dict[str, asyncio.Task[HttpResponse]] = {}  # by what was signed

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Answering = Coroutine[Any, Any, HttpResponse]
View = Callable[..., Answering]


def _twilio_view(view: View) -> View:
    """Parse Twilio's form; respond with 400 to anything else."""

    @csrf_exempt
    @wraps(view)
    async def wrapped(request: HttpRequest, **kwargs: str) -> HttpResponse:
        if request.method == "GET" and "CallSid" in request.GET:
            return twiml.reject_get()
        if request.method != "POST":
            return _wrong_method(request.method or "")
        form = TwilioForm(
            fields=request.POST,
            path=request.get_full_path(),
            signature=request.headers.get("X-Twilio-Signature", ""),
        )
        if not CALL_SID.fullmatch(form.call_sid):
            return HttpResponse("CallSid is missing or malformed.\n", status=400)
        bind_contextvars(call_sid=form.call_sid)  # until the next request, like the request's id
        return await view(form, **kwargs)

    return wrapped


def _wrong_method(method: str) -> HttpResponse:
    """Say what to fix, to a person who opens this URL in a browser."""
    text = (
        f"This URL accepts POST, but this request is a {method}. In the Twilio Console, set your "
        "number's voice webhook to HTTP POST.\n"
    )
    response = HttpResponse(text, status=405, content_type="text/plain; charset=utf-8")
    response["Allow"] = "POST"
    return response


def _apologizing(view: View) -> View:
    """Apologize to the caller if the view fails because of the database or a timeout.

    Twilio would say that an application error has occurred, or nothing at all.
    """

    @wraps(view)
    async def wrapped(form: TwilioForm, **kwargs: str) -> HttpResponse:
        began, status, apologized = monotonic(), 500, False
        try:
            response, apologized = await _or_apology(view(form, **kwargs))
            status = response.status_code
            return response
        finally:
            seconds = monotonic() - began
            tell(WebhookAnswered(view.__name__, form.call_sid, status, seconds, apologized))

    return wrapped


async def _or_apology(running: Coroutine[Any, Any, HttpResponse]) -> tuple[HttpResponse, bool]:
    """Return a view's response and False, or an apology and True."""
    try:
        with database_within(_ALL_VISITS_WITHIN_S):
            async with asyncio.timeout(_ANSWERED_WITHIN_S):
                return await running, False
    except Exception as error:
        if not isinstance(error, TimeoutError) and not is_outage(error):
            raise
        log.error("apologized_to_caller", error=cause_of(error))
        return twiml.hang_up(APOLOGY), True


async def _visit(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run queries within ``_VISIT_WITHIN_S``; raise :class:`OperationalError` after that."""
    return await _within(_VISIT_WITHIN_S, function, *args, **kwargs)


async def _within(seconds: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run queries within so many seconds; raise :class:`OperationalError` after that.

    They run once more within that time if their connection breaks.
    """
    with database_within(seconds):
        return await in_database(partial(run_again_if_cut, function, *args, **kwargs))


def _linked(purpose: str, *, within: float = _VISIT_WITHIN_S) -> Callable[[View], View]:
    """Pass the view the call that the URL's token names; respond with 403 to any other token.

    :param within: how long the database may take to find the call, in seconds.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        async def wrapped(form: TwilioForm, *, token: str) -> HttpResponse:
            try:
                call_id = call_id_of(purpose, token)
            except InvalidLink:
                return HttpResponse("This link is not valid.\n", status=403)
            if not await _within(within, transactions.is_call_of, call_id, form.call_sid):
                return HttpResponse("This link belongs to another call.\n", status=403)
            bind_contextvars(call_id=call_id)
            if (token := live.auth_token_of(call_id)) and not form.is_signed_with(token):
                return HttpResponse("X-Twilio-Signature does not match.\n", status=403)
            return await view(form, call_id)

        return wrapped

    return decorate


@_twilio_view
@_apologizing
async def inbound(form: TwilioForm) -> HttpResponse:
    """``POST /voice``: a call to a registered number."""
    if not ACCOUNT_SID.fullmatch(form.account_sid) or not form.called:
        return HttpResponse("AccountSid or To is missing or malformed.\n", status=400)
    if not form.signature:
        return HttpResponse("X-Twilio-Signature is missing.\n", status=403)
    return await _once(form, _answer_inbound(form), refusal=twiml.reject("busy"))


@_twilio_view
@_apologizing
@_linked("answer")
async def answered(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/answer/<token>``: an outbound call was answered."""
    return await _once(form, _answer_outbound(form, call_id), refusal=twiml.hang_up())


@_twilio_view
@_linked("status")
async def status_changed(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/status/<token>``: an outbound call rings, or has ended."""
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
@_linked("after", within=_ALL_VISITS_WITHIN_S)
async def after_stream(form: TwilioForm, call_id: str) -> HttpResponse:
    """``POST /voice/after/<token>``: the media stream is closed; Twilio asks what to do next.

    If that was an engine's doing, or the network's, the call gets another stream, and goes on.
    """
    if form.fields.get("CallStatus") == Call.Status.IN_PROGRESS:
        await live.give_out(call_id)
    if moving := await _within(_ALL_VISITS_WITHIN_S, transactions.move, call_id, form):
        warm_sockets.expect(moving.call, moving.plan)
        return twiml.connect(call_id, moving.ticket, moving.key)
    match await _within(_ALL_VISITS_WITHIN_S, transactions.after_stream, call_id):
        case Say(text):
            return twiml.hang_up(text)
        case Dial(to, shown):
            return twiml.dial(to, shown or "")
        case None:
            return twiml.hang_up()


async def _once(form: TwilioForm, answering: Answering, *, refusal: HttpResponse) -> HttpResponse:
    """Give a webhook and its retry the same response, and continue if Twilio disconnects.

    :param refusal: the response if this engine is draining and there is no other one.
    """
    task = _answers.get(form.digest)
    if task is None and (refused := drain_state.refusal(refusal)):
        answering.close()
        return refused
    if task is None:
        task = asyncio.ensure_future(answering)
        drain_state.handling(task)
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
    """Keep a response for Twilio's retry. A failure is not kept: the retry may succeed."""
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
    if isinstance(received, Rejected):
        return twiml.reject(received.word)
    return await _start(form, received)


async def _answer_outbound(form: TwilioForm, call_id: str) -> HttpResponse:
    received = await _visit(transactions.receive_answer, call_id, form)
    if received is None:
        return twiml.hang_up()
    return await _start(form, received)


@sensitive_variables()
async def _start(form: TwilioForm, pending: PendingCall) -> HttpResponse:
    """Ask the customer's backend, carry out its decision, and render it as TwiML."""
    bind_call(pending.call)
    answer = await ask_backend(pending)
    start = await _within(_ALL_VISITS_WITHIN_S, carry_out, pending.call, answer, form)
    match start:
        case Connect():
            drain_state.issued_ticket(start.call.id, start.valid_for)
            warm_sockets.expect(start.call, start.plan)
            key = conversation_key(start.ticket)
            return twiml.connect(start.call.id, start.ticket, key, start.plan.greeting_url)
        case Transferred():
            shown = caller_id(start.call.caller_phone, start.call.called_number)
            return twiml.dial(start.to, shown)
        case Declined() if start.message:
            return twiml.hang_up(start.message)
        case Declined():
            return _reject_or_hang_up(pending, start.reason)
        case Rejected():
            return _reject_or_hang_up(pending, start.word)
        case Failed():
            return _reject_or_hang_up(pending, "rejected")
        case Forged():
            return HttpResponse(f"{start.message}\n", status=403)
        case AlreadyEnded():
            return twiml.hang_up()


def _reject_or_hang_up(pending: PendingCall, word: str) -> HttpResponse:
    """Reject a ringing call, or hang up an answered one."""
    return twiml.hang_up() if pending.is_answered else twiml.reject(word)
