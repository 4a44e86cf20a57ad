"""The caller's side of a call: the media socket that Twilio or a browser opens."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

import orjson
import structlog
from django.db import transaction
from django.utils import timezone
from structlog.contextvars import bind_contextvars

from accounts.models import WebhookSecret
from core.client_address import network_of
from core.observers import tell
from core.outages import is_outage
from telephony import greetings
from telephony.call_log import bind_call, names_of
from telephony.db import in_database
from telephony.engine.events import CallerHungUp, Event
from telephony.engine.twilio_codec import MULAW, CallerAudio, StreamStarted, decode
from telephony.facts import CallHeld, CallReleased
from telephony.models import Call
from telephony.services import call_connect, call_move
from telephony.voice import signatures, websocket
from telephony.voice.browser import BrowserCallRunner
from telephony.voice.handover import Handed, InvalidTicket, take_plan
from telephony.voice.live import LiveCalls
from telephony.voice.runner import MOST_EARLY_BYTES, CallRunner, Connection
from telephony.voice.twiml import TICKET
from telephony.voice.unadmitted import UnadmittedSockets
from telephony.voice.websocket import POLICY_VIOLATION, Handler, Socket

log = structlog.get_logger(__name__)

START_WITHIN_S = 10.0
# After this an apology is better than more silence.
ADMITTED_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.2
# Codes of a stream that was lost, to the network or to a proxy that stops. Twilio sends a message
# before it ends one.
_BROKEN = frozenset({1001, websocket.CONNECTION_LOST, 1011, 1012, 1013})
_EVENT_BYTES = 256  # the size that a keypress or a mark counts as


class CallerSide(Handler):
    """Handles a media socket: first its ticket, then the call."""

    def __init__(self, calls: LiveCalls, unadmitted: UnadmittedSockets, signature: str) -> None:
        self._calls = calls
        self._unadmitted = unadmitted
        self._signature = signature
        self._socket: Socket
        self._network: str
        self._runner: CallRunner | None = None
        self._waiting: list[bytes | Event] = []
        self._waiting_bytes = 0
        self._admission: asyncio.Task[None] | None = None
        self._is_over = False
        self._has_sent_nonsense = False
        self._timer: asyncio.TimerHandle

    def on_open(self, socket: Socket) -> None:
        self._socket = socket
        forwarded_for = ",".join(socket.headers.getall("X-Forwarded-For", ()))
        self._network = network_of(forwarded_for, socket.peer)
        self._unadmitted.add(self._network, socket)
        self._timer = asyncio.get_running_loop().call_later(
            START_WITHIN_S, socket.close, POLICY_VIOLATION, "No start message arrived."
        )

    def on_message(self, text: bytes) -> None:
        """Handle a message. Once the model is ready, frames bypass this through a relay."""
        try:
            message = decode(orjson.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._note_nonsense(error)
            return
        match message:
            case None:
                pass
            case StreamStarted():
                self._start(message)
            case CallerAudio():
                self._pass_audio_on(message.payload)
            case CallerHungUp():
                self._stop()
            case _:
                self._pass_on(message)

    def _note_nonsense(self, error: Exception) -> None:
        """Log only the first per socket: anybody can open one, and would fill the log."""
        if not self._has_sent_nonsense:
            log.warning("media_message_not_understood", error=type(error).__name__)
        self._has_sent_nonsense = True

    def on_close(self, code: int, reason: str) -> None:
        self._timer.cancel()
        self._unadmitted.remove(self._network, self._socket)
        was_over, self._is_over = self._is_over, True
        if self._runner is not None:
            if code in _BROKEN and not was_over:
                self._runner.caller_lost()
            else:
                self._runner.caller_closed()

    def _stop(self) -> None:
        self._is_over = True
        if self._runner is not None:
            self._runner.caller_stopped()

    def on_blocked(self) -> None:
        if self._runner is not None:
            self._runner.caller_blocked()

    def on_unblocked(self) -> None:
        if self._runner is not None:
            self._runner.caller_unblocked()

    def _pass_audio_on(self, payload: bytes) -> None:
        if self._runner is not None:
            self._runner.caller_audio(payload)
        else:
            self._keep(payload)

    def _pass_on(self, event: Event) -> None:
        if self._runner is not None:
            self._runner.receive(event)
        else:
            self._keep(event)

    def _keep(self, item: bytes | Event) -> None:
        size = len(item) if isinstance(item, bytes) else _EVENT_BYTES
        is_asked = self._admission is not None and not self._is_over
        if is_asked and self._waiting_bytes + size <= MOST_EARLY_BYTES:
            self._waiting.append(item)
            self._waiting_bytes += size

    def _forget(self) -> None:
        self._is_over, self._waiting, self._waiting_bytes = True, [], 0

    def _start(self, started: StreamStarted) -> None:
        if self._admission is not None:
            return
        self._timer.cancel()
        self._socket.identified()
        if started.format != MULAW:
            self._socket.close(POLICY_VIOLATION, f"The stream must be {MULAW}.")
            return
        self.names = {"call_sid": started.call_sid}
        self._admission = asyncio.get_running_loop().create_task(self._admit(started))

    async def _admit(self, started: StreamStarted) -> None:
        """Admit the call if its ticket is valid, and hold the call until it ends."""
        bind_contextvars(**self.names)
        try:
            runner = await self._begin(started)
        except InvalidTicket as error:
            log.warning("ticket_refused", why=str(error))
            self._forget()
            self._socket.close(POLICY_VIOLATION, "The ticket is not valid.")
            return
        except Exception as error:
            log.error("admission_failed", error=type(error).__name__)
            self._forget()
            self._socket.close(websocket.INTERNAL_ERROR)
            return
        call = runner.call
        self._socket.admit()
        self._unadmitted.remove(self._network, self._socket)
        self._calls.add(call.id, runner)
        tell(CallHeld(call))
        try:
            self._hand_over_to(runner)
            await runner.run()
        finally:
            self._calls.remove(call.id, runner)
            tell(CallReleased(call))

    async def _begin(self, started: StreamStarted) -> CallRunner:
        """Use the ticket; return the call's runner.

        Only the runner keeps what the ticket opens, and no longer than it needs each part: an
        earlier conversation and a greeting have hundreds of kilobytes.
        """
        call, handed, secrets = await self._redeem_ticket(started)
        self.names = names_of(call)
        bind_call(call)
        runner_class = BrowserCallRunner if handed.plan.is_test else CallRunner
        socket, engine_id = self._socket, self._calls.engine_id
        return runner_class(
            Connection(call, handed, secrets, socket, started.stream_sid, engine_id)
        )

    async def _redeem_ticket(self, started: StreamStarted) -> tuple[Call, Handed, list[str]]:
        """Use the ticket; retry while the database is down and the caller waits."""
        began_at = timezone.now()
        give_up_at = asyncio.get_running_loop().time() + ADMITTED_WITHIN_S
        while True:
            try:
                return await in_database(
                    redeem_ticket, started, self._signature, self._calls.engine_id, began_at
                )
            except Exception as error:
                is_late = asyncio.get_running_loop().time() > give_up_at
                if self._is_over or is_late or not is_outage(error):
                    raise
                await asyncio.sleep(_LOOK_AGAIN_S)

    def _hand_over_to(self, runner: CallRunner) -> None:
        self._runner = runner
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if isinstance(item, bytes):
                runner.caller_audio(item)
            else:
                runner.receive(item)
        if self._is_over:
            runner.caller_stopped()


@transaction.atomic
def redeem_ticket(
    started: StreamStarted, signature: str, engine_id: str, began_at: datetime
) -> tuple[Call, Handed, list[str]]:
    """Use the ticket: return the connected call; raise :class:`InvalidTicket`.

    This is one transaction: a connected call always has an engine that knows of it.

    :param began_at: when the audio began. The database may not have been available at once.
    """
    now = timezone.now()
    ticket = started.parameters.get(TICKET, "")
    call, handed = take_plan(ticket, started.call_sid, now)
    plan = handed.plan
    if started.account_sid != plan.twilio_account_sid:
        raise InvalidTicket("another Twilio account")
    # The ticket is the credential. Only Twilio has it, or the browser of a test call, which sends
    # no signature. If there is a signature, it must be valid.
    if signature and not signatures.is_signed_upgrade(signature, plan.twilio_auth_token):
        raise InvalidTicket("wrong signature")
    if call.answered_at is None:  # its first stream could not be opened: it begins anew
        handed = replace(handed, moved=None)
    connect = call_move if handed.moved else call_connect
    if not connect(call, now=began_at, engine_id=engine_id):
        raise InvalidTicket("the call has ended")
    if not handed.moved:
        handed = replace(handed, greeting=greetings.recall(call.account_id, plan, now))
    return call, handed, WebhookSecret.objects.get(account_id=call.account_id).secrets(now)
