"""The media socket: Twilio opens it as our TwiML says, and shows the ticket that lets a call in."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from functools import partial
from typing import Self
from urllib.parse import urlsplit

import orjson
import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import WebhookSecret
from core import request_limits
from core.client_address import network_of
from telephony.callbacks import client
from telephony.db import in_database
from telephony.engine.events import CallerHungUp, Event
from telephony.engine.plan import CallPlan
from telephony.engine.twilio_codec import (
    MULAW,
    CallerAudio,
    StreamStarted,
    decode,
)
from telephony.models import Call
from telephony.services import call_connect
from telephony.voice import signatures, websocket
from telephony.voice.browser import BrowserCallRunner
from telephony.voice.gate import gate
from telephony.voice.handover import InvalidTicket, take_plan
from telephony.voice.heart import Heart
from telephony.voice.live import LiveCalls
from telephony.voice.runner import CallRunner, Connection
from telephony.voice.twiml import TICKET
from telephony.voice.websocket import POLICY_VIOLATION, Handler, Limits, Socket

log = structlog.get_logger(__name__)

START_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.2
# Twilio's own messages have a few hundred bytes; its parameters at most a few thousand. Its second
# message is the start; then come 50 a second, or what has gathered in a stall.
_LIMITS = Limits(message=64 << 10, rate=200, burst=1000, stranger=(64, 64 << 10))
# Sockets that no ticket has let in, in one process and of one address in it. The oldest go first:
# one that brings a ticket is let in after a moment.
MOST_WAITING = request_limits.WAITING
MOST_OF_ONE_ADDRESS = MOST_WAITING // 2
# What arrives while a ticket is looked up: 5 s of frames. Before a ticket nothing is kept.
_MOST_WAITING_BYTES = 64 << 10
_EVENT_BYTES = 256  # what a pressed key or a mark counts as


class MediaListener:
    """The port of the media sockets, and the calls that came in through it."""

    def __init__(self, listener: websocket.Listener, calls: LiveCalls, heart: Heart) -> None:
        self._listener = listener
        self.calls = calls
        self._heart = heart

    @classmethod
    async def start(cls, host: str, port: int) -> Self:
        """Listen; raise :class:`OSError` if the port is taken."""
        # What is loaded stays loaded. A search through it for garbage would stop all calls.
        gc.collect()
        gc.freeze()
        gate.open()
        heart = Heart()
        calls = LiveCalls(heart.engine_id)
        accept = partial(_accept, calls, _Strangers())
        listener = await websocket.listen(
            host, port, accept, limits=_LIMITS, most_waiting=MOST_WAITING
        )
        heart.start()
        return cls(listener, calls, heart)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def waiting(self) -> int:
        """How many connections no ticket has let in yet."""
        return self._listener.waiting

    async def drain(self) -> None:
        """Take no more calls than those that are on their way here, and wait for the end of all."""
        await self._heart.drain()
        await self._let_the_last_in()
        await self.stop()

    async def _let_the_last_in(self) -> None:
        """Wait for the sockets of tickets that we gave out.

        Where no other engine is, new calls are taken while we have to stay for earlier ones.
        """
        earlier = self.calls.ids
        while True:
            earlier &= self.calls.ids
            if gate.is_orphan or gate.has_others or not earlier:
                gate.close()
                if not await gate.is_expected():
                    return
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def stop(self) -> None:
        """Close the port, and wait until the calls that are there have ended."""
        gate.close()
        self._listener.close()
        while self._listener.waiting or len(self.calls):  # noqa: ASYNC110 (two counts)
            await asyncio.sleep(_LOOK_AGAIN_S)
        await self._heart.stop()
        await client.close()


class _Strangers:
    """The sockets that no ticket has let in yet, by where they come from."""

    def __init__(self) -> None:
        self._sockets: dict[str, dict[Socket, None]] = {}

    def add(self, network: str, socket: Socket) -> None:
        theirs = self._sockets.setdefault(network, {})
        theirs[socket] = None
        if len(theirs) > MOST_OF_ONE_ADDRESS:
            oldest = next(iter(theirs))
            del theirs[oldest]
            oldest.close(POLICY_VIOLATION, "Too many sockets wait for a call.")

    def remove(self, network: str, socket: Socket) -> None:
        theirs = self._sockets.get(network, {})
        theirs.pop(socket, None)
        if not theirs:
            self._sockets.pop(network, None)


def _accept(
    calls: LiveCalls, strangers: _Strangers, path: str, headers: Mapping[str, str]
) -> Handler | None:
    if path.partition("?")[0] != urlsplit(settings.MEDIA_STREAM_URL).path:
        return None
    return _CallerSide(calls, strangers, headers.get("X-Twilio-Signature", ""))


class _CallerSide(Handler):
    """What the caller's socket hears: first its ticket, then the call."""

    def __init__(self, calls: LiveCalls, strangers: _Strangers, signature: str) -> None:
        self._calls = calls
        self._strangers = strangers
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
        self._strangers.add(self._network, socket)
        self._timer = asyncio.get_running_loop().call_later(
            START_WITHIN_S, socket.close, POLICY_VIOLATION, "No start message came."
        )

    def on_message(self, text: bytes) -> None:
        """Take a message; once the model listens, frames go past this through a relay."""
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
        """Log the first of a socket's: whoever opens one could fill the log."""
        if not self._has_sent_nonsense:
            log.warning("media_message_not_understood", error=type(error).__name__)
        self._has_sent_nonsense = True

    def on_close(self, code: int, reason: str) -> None:
        self._timer.cancel()
        self._strangers.remove(self._network, self._socket)
        self._is_over = True
        if self._runner is not None:
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
        if is_asked and self._waiting_bytes + size <= _MOST_WAITING_BYTES:
            self._waiting.append(item)
            self._waiting_bytes += size

    def _forget(self) -> None:
        self._is_over, self._waiting, self._waiting_bytes = True, [], 0

    def _start(self, started: StreamStarted) -> None:
        if self._admission is not None:
            return
        self._timer.cancel()
        self._socket.introduced()
        if started.format != MULAW:
            self._socket.close(POLICY_VIOLATION, f"The stream must be {MULAW}.")
            return
        self._admission = asyncio.get_running_loop().create_task(self._admit(started))

    async def _admit(self, started: StreamStarted) -> None:
        """Let the call in if its ticket is good, and hold it to its end."""
        try:
            call, plan, secrets = await in_database(
                _let_in, started, self._signature, self._calls.engine_id
            )
        except InvalidTicket as error:
            log.warning("ticket_refused", call_sid=started.call_sid, why=str(error))
            self._forget()
            self._socket.close(POLICY_VIOLATION, "The ticket is not valid.")
            return
        except Exception as error:
            log.error("admission_failed", call_sid=started.call_sid, error=type(error).__name__)
            self._forget()
            self._socket.close(websocket.INTERNAL_ERROR)
            return
        self._socket.let_in()
        self._strangers.remove(self._network, self._socket)
        runner_class = BrowserCallRunner if plan.is_test else CallRunner
        runner = runner_class(Connection(call, plan, secrets, self._socket, started.stream_sid))
        self._calls.add(call.id, runner)
        try:
            self._hand_over_to(runner)
            await runner.run()
        finally:
            self._calls.remove(call.id)

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
def _let_in(
    started: StreamStarted, signature: str, engine_id: str
) -> tuple[Call, CallPlan, list[str]]:
    """Use the ticket: return the connected call; raise :class:`InvalidTicket`.

    All of it or nothing: a call that is connected has an engine that knows of it.
    """
    now = timezone.now()
    ticket = started.parameters.get(TICKET, "")
    call, plan = take_plan(ticket, started.call_sid, now)
    if started.account_sid != plan.twilio_account_sid:
        raise InvalidTicket("of another Twilio account")
    # The ticket is the proof: only Twilio has it, or a test call's browser, which signs nothing. A
    # signature that is there must fit, though.
    if signature and not signatures.is_signed_upgrade(signature, plan.twilio_auth_token):
        raise InvalidTicket("with a wrong signature")
    if not call_connect(call, now=now, engine_id=engine_id):
        raise InvalidTicket("of a call that has ended")
    return call, plan, WebhookSecret.objects.get(account_id=call.account_id).secrets(now)
