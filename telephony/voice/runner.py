"""A call in progress: its two sockets, its clock and its tasks around a :class:`CallSession`.

Relays pass audio frames straight from one socket to the other. Everything else is decoded to an
event for the session, which returns the actions to carry out.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog

from core.observers import tell
from telephony import greetings
from telephony.bounded_json import NotUsable, decoded_leniently
from telephony.call_log import about
from telephony.callbacks import client
from telephony.callbacks.attempts import Failure, Result
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.tools import ToolFailed, run_tool
from telephony.durations import ms_since
from telephony.engine import actions, events
from telephony.engine.actions import Action
from telephony.engine.after_stream import APOLOGY, AfterStream, Say
from telephony.engine.codecs.interface import AgentAudio, Codec
from telephony.engine.codecs.table import codec_of
from telephony.engine.codes import EndedReason, ErrorCode, OnErrorCode
from telephony.engine.session import CallSession
from telephony.engine.snapshot import MoveReason
from telephony.engine.spoken import SpokenGreeting
from telephony.engine.twilio_codec import Encoder
from telephony.facts import CALL_ENDED, ModelConnected, ModelDisconnected, Noted, ToolAsked
from telephony.models import Call, FailedRequest
from telephony.numbering import may_be_called
from telephony.outcomes import Outcome
from telephony.services import call_audio_ended
from telephony.trace_ids import new_span, traceparent
from telephony.voice import model_connect, transactions
from telephony.voice.ending import End, record_end, record_rest
from telephony.voice.giving_out import GivingOut
from telephony.voice.handover import Conversation, Handed
from telephony.voice.outcomes import Outcomes
from telephony.voice.recorder import Recorder
from telephony.voice.storing import stored, stored_in_background
from telephony.voice.websocket import ConnectFailed, Socket

log = structlog.get_logger(__name__)

# What comes from the caller before their ticket is redeemed, and again before the model is ready:
# 5 s of frames, or as many bytes of larger ones.
MOST_EARLY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Connection:
    """An accepted call and the media stream that was opened for it."""

    call: Call
    handed: Handed
    secrets: Sequence[str]
    socket: Socket
    stream_sid: str
    engine_id: str


class CallRunner:
    """Runs a call, from a valid ticket on an open media stream until the call has ended.

    The call's tasks have the log context in which it was created.
    """

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._plan = connection.handed.plan
        self._key = connection.handed.key
        self._recalled = connection.handed.greeting
        self._engine_id = connection.engine_id
        self._secrets = connection.secrets
        self._caller = connection.socket
        self._encoder = Encoder(connection.stream_sid)

        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._started = self._loop.time()
        self._started_at = datetime.now(UTC)
        self._session = self._begin(connection.handed.moved)
        self._codec, self._agent = self._way_to_model()
        self._outcomes = Outcomes(self._call, self._key, self._session, self._wall_time)
        self._recorder = Recorder(
            self._call.id, self._call.account_id, self.outcome, self._engine_id
        )

        self._is_caller_blocked = False  # the caller's side does not keep up
        self._model: Socket | None = None
        self._listening: Socket | None = None  # the model's socket, once it accepts audio
        self._early: list[bytes] = []
        self._early_bytes = 0
        # uvloop's handles do not always know when they fire, so the time is kept here as well.
        self._alarm: asyncio.Handle | None = None
        self._alarm_at: float | None = None
        self._errors: list[tuple[OnErrorCode, str]] = []
        self._tools: dict[str, asyncio.Task[None]] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        #: When the caller's socket closed.
        self.closed_at: datetime | None = None
        self.giving_out = GivingOut(self, self._session, self._caller, self._engine_id)
        # None: the call goes on elsewhere.
        self._finished: asyncio.Future[actions.Finish | None] = self._loop.create_future()
        #: Events so far: what is stored is complete if no more have come since.
        self.received = 0

    def _begin(self, moved: Conversation | None) -> CallSession:
        """Begin the conversation, or continue the one that another engine has begun."""
        if moved is None:
            return CallSession(
                self._plan,
                self._started,
                unix_now=self._started_at.timestamp(),
                may_call=self._may_transfer_to,
            )
        ago = max(0.0, (self._started_at - moved.taken_at).total_seconds())
        return CallSession.resume(
            moved.snapshot,
            self._started,
            ago=ago,
            unix_now=self._started_at.timestamp(),
            may_call=self._may_transfer_to,
        )

    def _may_transfer_to(self, number: str) -> bool:
        """Return True if ``transfer_call`` may dial the number: the called one rings here."""
        return number != self._call.called_number and may_be_called(number)

    @property
    def call(self) -> Call:
        return self._call

    @property
    def auth_token(self) -> str:
        """The token with which Twilio signs this call's requests."""
        return self._plan.twilio_auth_token

    @property
    def is_closed(self) -> bool:
        """True once the caller's socket has closed."""
        return self.closed_at is not None

    @property
    def has_left(self) -> bool:
        """True once another engine has the call, or may have it."""
        return self._finished.done() and self._finished.result() is None

    @property
    def can_move(self) -> bool:
        """True if the call may go on in another stream."""
        return bool(self._key) and not (self._session.is_over or self._finished.done())

    async def run(self) -> None:
        """Run the call until it has ended and is recorded."""
        self._greet()
        self._connecting = self.spawn(self._connect_model())
        self._set_alarm()
        finish = await self._finished
        await self._let_go()
        await self._record(finish)

    def _greet(self) -> None:
        """Play the greeting from the cache, if it was there, and let go of it."""
        recalled, self._recalled = self._recalled, None
        if recalled is not None:
            self.receive(events.GreetingRecalled(recalled))

    def caller_audio(self, payload: bytes) -> None:
        """Keep a frame of the caller's audio that no relay carried, until the model is ready."""
        if self._listening is not None:
            self._listening.send(self._codec.append_audio(payload))
        elif self._early_bytes + len(payload) <= MOST_EARLY_BYTES:
            self._early.append(payload)
            self._early_bytes += len(payload)

    def receive(self, event: events.Event) -> None:
        """Pass the event to the session, carry out its actions, and set the alarm."""
        if self._finished.done():
            return
        self.received += 1
        try:
            self._agent.settle()
            for action in self._session.receive(event, self._loop.time()):
                self._do(action)
            if isinstance(event, events.CallerTranscribed | events.AgentTranscribed):
                self._recorder.changed()
            self._agent.resume()
            self._set_alarm()
        except Exception as error:
            self._abandon(error)

    def model_opened(self, socket: Socket) -> None:
        """Configure the model, request the greeting, and let the model listen, all at once."""
        self._model = socket
        self.receive(events.ModelReady())
        if self._codec.hears_at_once:
            self._let_model_listen()

    def model_closed(self, code: int, reason: str) -> None:
        """Handle the closed socket of the model, whichever side closed it."""
        if not (self._session.is_over or self.has_left):
            tell(ModelDisconnected(self._call, code))
        for event in self._codec.closed():
            self.receive(event)
        self.receive(events.ModelClosed(code, reason))

    def outcome(self, reason: MoveReason = "engine_lost") -> Callable[[], Outcome]:
        """Return a function that makes the outcome so far.

        :param reason: why another engine would go on with the call.
        """
        return self._outcomes.so_far(self._plan.model, reason, self._loop.time())

    def leave(self) -> None:
        """Close the sockets, and record no end: another engine has the call, or will."""
        if not self._finished.done():
            self._finished.set_result(None)

    def request_hangup(self) -> None:
        self.receive(events.HangupRequested())

    def caller_stopped(self) -> None:
        """Handle the end of the caller's stream: no audio comes, and none may be sent."""
        self._hang_up()
        self.receive(events.CallerHungUp())

    def caller_closed(self) -> None:
        """Handle the closed socket of the caller, whichever side closed it."""
        self._note_close()
        self.receive(events.CallerHungUp())

    def caller_lost(self) -> None:
        """Handle the caller's socket that broke: Twilio may ask for another stream."""
        if not self.can_move:
            self.caller_closed()
        elif not self.is_closed:
            self.closed_at = self._wall_time(self._loop.time())
            self.receive(events.StreamBroke())
            if self._session.is_over:  # the stream broke too often
                self._loop.call_soon(self._tell_close)

    def end_with_stream(self) -> None:
        """End the call: its stream broke, and there can be no other one."""
        self._loop.call_soon(self._tell_close)
        self.receive(events.CallerHungUp())

    def caller_blocked(self) -> None:
        """Pause the model while the caller's side does not keep up."""
        self._is_caller_blocked = True
        if self._model is not None:
            self._model.pause_reading()

    def caller_unblocked(self) -> None:
        self._is_caller_blocked = False
        if self._model is not None:
            self._model.resume_reading()

    def model_blocked(self) -> None:
        self._caller.pause_reading()

    def model_unblocked(self) -> None:
        self._caller.resume_reading()

    def model_message(self, text: bytes) -> None:
        """Handle a message from the model that no relay carried."""
        try:
            message = decoded_leniently(text)
        except NotUsable as error:
            self.receive(events.NotUnderstood(f"something that {error}"))
            return
        codec = self._codec
        for event in codec.decode(message):
            self.receive(event)
            if codec is not self._codec:  # another model takes the place of this one
                return
            if isinstance(event, events.ModelConfigured):
                self._model_configured()
        if (delta := codec.audio(message)) and self._agent.play(*delta):
            self.receive(events.AgentAudioStarted(delta[0]))
        self._send(codec.due())

    def _model_configured(self) -> None:
        if not self._codec.hears_at_once:
            self._let_model_listen()
        if self._is_caller_blocked and self._model is not None:  # since another model spoke
            self._model.pause_reading()

    def _let_model_listen(self) -> None:
        """Send the model the caller's audio so far, behind its configuration; relay the rest."""
        if self._model is None or self._session.is_over:
            return
        self._listening = self._model
        early, self._early, self._early_bytes = self._early, [], 0
        for payload in early:
            self.caller_audio(payload)
        self._caller.relay_to(self._model, self._codec.caller_frame)
        self._model.relay_to(self._caller, self._agent.take)

    def _send(self, messages: list[dict[str, Any]]) -> None:
        if self._model is not None:
            for message in messages:
                self._model.send(orjson.dumps(message))

    def _do(self, action: Action) -> None:
        match action:
            case actions.ToModel():
                self._send(self._codec.encode(action.command))
            case actions.ConnectModel():
                self._connect_another(action)
            case actions.PlayAudio():
                self._caller.send(self._encoder.media(action.payload))
            case actions.SendMark():
                self._caller.send(self._encoder.mark(action.name))
            case actions.ClearAudio():
                self._caller.send(self._encoder.clear())
            case actions.KeepGreeting():
                self.spawn(self._keep_greeting(action.spoken))
            case actions.RunTool():
                self._tools[action.call_id] = self.spawn(self._run_tool(action))
            case actions.CancelTool():
                if tool := self._tools.pop(action.call_id, None):
                    tool.cancel()
            case actions.Note():
                at = datetime.now(UTC)
                self._recorder.add((at, action.kind, action.detail))
                usage = self._session.usage
                tell(Noted(self._call, at, action.kind, action.detail, usage))
            case actions.ReportError():
                self._errors.append((action.code, action.message))
            case actions.CloseCaller():
                self._closing = self.spawn(self._close_caller(action.after))
            case actions.GiveOut():
                self.giving_out.begin("stream_broken")
            case actions.Finish():
                self._finished.set_result(action)

    def _set_alarm(self) -> None:
        """Schedule the session's next deadline."""
        deadline = self._session.deadline
        if deadline == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = None if deadline is None else self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._alarm = self._alarm_at = None
        self.receive(events.TimePassed())

    # Tasks

    async def _connect_model(self, after_s: float = 0.0) -> None:
        """Open the model's socket. The session has its own deadline for the whole connect."""
        if after_s:
            await asyncio.sleep(after_s)
        began = time.monotonic()
        try:
            await model_connect.connect(self._plan, self)
        except ConnectFailed as failure:
            self._tell_connect(
                "refused" if failure.status else "unreachable", failure.status, began
            )
            self.receive(events.ModelUnreachable(failure.reason, failure.status))
        else:
            self._tell_connect("connected", None, began)

    def _connect_another(self, another: actions.ConnectModel) -> None:
        """Leave the model's socket, or the attempt to open it, for that of the plan's model."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._model is not None:
            self._caller.relay_nothing()
            self._caller.resume_reading()  # the model that is left may not have kept up
            self._model.abandon()
        self._plan, self._model, self._listening = another.plan, None, None
        self._codec, self._agent = self._way_to_model()
        self._connecting = self.spawn(self._connect_model(another.after_s))

    def _way_to_model(self) -> tuple[Codec, AgentAudio]:
        codec = codec_of(self._plan.model)
        playback = self._session.playback
        return codec, codec.agent_audio(self._caller.send, self._encoder, playback, self._loop.time)

    def _tell_connect(self, outcome: str, status: int | None, began: float) -> None:
        tell(ModelConnected(self._call, outcome, status, time.monotonic() - began))

    async def _run_tool(self, call: actions.RunTool) -> None:
        at, began, span = datetime.now(UTC), time.monotonic(), new_span()
        outcome = "succeeded"
        try:
            result = await run_tool(
                self._plan.on_tool_call_url,
                CallFacts.of(self._call),
                name=call.name,
                arguments=call.arguments,
                secrets=self._secrets,
                traceparent=traceparent(self._call.id, span),
                known=(self._plan.openai_api_key, self._plan.twilio_auth_token),
            )
        except asyncio.CancelledError:
            if self._finished.done():
                outcome = CALL_ENDED
            else:  # the session's deadline, which is the first to pass
                outcome = client.TimedOut.code
                late = Result(outcome, at=at, duration_ms=ms_since(began))
                self._note_failed(call.name, late)
            raise
        except ToolFailed as failure:
            outcome = failure.code
            self._note_failed(call.name, failure.result)
            self.receive(events.ToolFailed(call.call_id, failure.message))
        else:
            self.receive(events.ToolReturned(call.call_id, result))
        finally:
            tell(ToolAsked(self._call, call.name, outcome, time.monotonic() - began, span))

    def _note_failed(self, tool: str, result: Result) -> None:
        kind, url = FailedRequest.Kind.TOOL_CALL, self._plan.on_tool_call_url
        self._recorder.add_failed(Failure(kind, url, result, tool))

    async def _keep_greeting(self, spoken: SpokenGreeting) -> None:
        """Put the greeting in the cache; without it, the next call asks its model."""
        account_id, now = self._call.account_id, datetime.now(UTC)
        await stored_in_background(
            "greeting_not_kept", greetings.keep, account_id, self._plan, spoken, now
        )

    async def _close_caller(self, after: AfterStream) -> None:
        """Store what Twilio is to do next, and only then end the stream so that it asks.

        If that fails, Twilio will be told to apologize and hang up.
        """
        await stored("after_stream_not_recorded", transactions.after_stream_keep, self._call, after)
        await self._end_stream(after)

    async def _end_stream(self, after: AfterStream) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the caller's socket: from now on nothing is relayed or charged."""
        self._note_close()
        self._caller.close()

    def _note_close(self) -> None:
        if not self.is_closed:
            self.closed_at = self._wall_time(self._loop.time())
            self._loop.call_soon(self._tell_close)

    def _tell_close(self) -> None:
        """Record that charging has stopped, unless the whole call ends now as well."""
        if self.closed_at is None or self._finished.done():
            return
        self.spawn(
            stored_in_background(
                "audio_end_not_recorded",  # the end of the call records it too
                call_audio_ended,
                call_id=self._call.id,
                at=self.closed_at,
                held_by=self._engine_id,
            )
        )

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task of the call, in its log context. An error in it ends the call."""
        # Sockets and timers call from contexts of their own.
        task = self._loop.create_task(coroutine, context=self._context.copy())
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._abandon(error)

    # The end

    def _abandon(self, error: BaseException) -> None:
        """End the call after a bug of ours, as gently as possible. Every call must get an end."""
        where = "".join(traceback.format_tb(error.__traceback__))
        with about(self._call):
            log.error("call_abandoned", error=type(error).__name__, where=where)
        if not self._finished.done():
            now = self._loop.time()
            self._errors.append((ErrorCode.INTERNAL_ERROR, ErrorCode.INTERNAL_ERROR.meaning))
            self._closing = self._closing or self.spawn(self._close_caller(Say(APOLOGY)))
            self._finished.set_result(
                actions.Finish(
                    EndedReason.INTERNAL_ERROR,
                    now,
                    self._session.lines(),
                    self._session.tool_runs(),
                    self._session.usage,
                )
            )

    async def _let_go(self) -> None:
        """Stop everything that runs around the session."""
        if self._alarm is not None:
            self._alarm.cancel()
        for task in (self._connecting, *self._tools.values()):
            if task is not None:
                task.cancel()
        if self._model is not None:
            self._model.close()
        if self._closing is not None:
            await self._closing
        self._hang_up()

    async def _record(self, finish: actions.Finish | None) -> None:
        """Record the call's end, or what is left to record of a call that goes on elsewhere."""
        entries = await self._recorder.close()
        if finish is None:
            await record_rest(self._call, entries)
            return
        await record_end(
            End(
                call=self._call,
                reason=finish.reason,
                ended_at=self.closed_at or self._wall_time(finish.ended_at),
                outcome=self._outcomes.at_end(self._plan.model, finish),
                errors=self._errors,
                entries=entries,
                engine_id=self._engine_id,
            )
        )

    def _wall_time(self, at: float) -> datetime:
        return self._started_at + timedelta(seconds=at - self._started)
