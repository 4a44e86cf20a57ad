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
from functools import partial
from typing import Any

import orjson
import structlog

from core.observers import tell
from core.outages import is_outage
from telephony import greetings
from telephony.bounded_json import NotUsable, decoded_leniently
from telephony.call_log import about
from telephony.callbacks import client
from telephony.callbacks.attempts import Failure, Result
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.tools import ToolFailed, run_tool
from telephony.db import in_database
from telephony.durations import ms_since
from telephony.engine import actions, events
from telephony.engine.actions import Action
from telephony.engine.after_stream import APOLOGY, AfterStream, Say
from telephony.engine.codecs.interface import AgentAudio, Codec
from telephony.engine.codecs.table import codec_of
from telephony.engine.codes import EndedReason, ErrorCode, OnErrorCode
from telephony.engine.costs import TokenUsage
from telephony.engine.session import CallSession
from telephony.engine.snapshot import MoveReason
from telephony.engine.spoken import SpokenGreeting
from telephony.engine.tool_runs import ToolRun
from telephony.engine.transcript import Line
from telephony.engine.twilio_codec import Encoder
from telephony.facts import CALL_ENDED, ModelConnected, ModelDisconnected, Noted, ToolAsked
from telephony.models import Call, FailedRequest
from telephony.numbering import may_be_called
from telephony.outcomes import Outcome
from telephony.services import (
    call_audio_ended,
    call_end,
    call_record,
    call_resume,
    tool_call_line,
    transcript_line,
)
from telephony.trace_ids import new_span, traceparent
from telephony.voice import model_connect, transactions
from telephony.voice.handover import Conversation, Handed, sealed_conversation
from telephony.voice.recorder import Entries, Recorder
from telephony.voice.websocket import ConnectFailed, Socket

log = structlog.get_logger(__name__)

# What comes from the caller before their ticket is redeemed, and again before the model is ready:
# 5 s of frames, or as many bytes of larger ones.
MOST_EARLY_BYTES = 64 << 10
# The limit for storing what Twilio is to do next. The socket is open meanwhile.
NEXT_WRITTEN_S = 5.0
# How often a conversation is stored that goes on meanwhile.
HAND_OVER_TRIES = 3
# For how long the model may report a response that a move cuts short: so many looks of so long.
CUT_LOOKS, CUT_LOOK_S = 10, 0.05
# A stream that brings nothing for so long is over, if Twilio says so; and how often to look.
SILENT_S = 0.25
SILENT_LOOKS = 4
# The end of a call is retried while the database is down: only this process knows its outcome.
LONGEST_PAUSE_S = 5.0
# Any other repeated failure is a bug. The sweep for calls that no engine holds ends the call.
END_TRIES = 8


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
        self._recorder = Recorder(
            self._call.id, self._call.account_id, self._outcome, self._engine_id
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
        self._closed_at: float | None = None  # when the caller's socket closed
        self._moving: asyncio.Task[None] | None = None
        # None: the call goes on elsewhere.
        self._finished: asyncio.Future[actions.Finish | None] = self._loop.create_future()
        self._received = 0  # events: what is stored is complete if no more have come since

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
        return self._closed_at is not None

    @property
    def has_left(self) -> bool:
        """True once another engine has the call, or may have it."""
        return self._finished.done() and self._finished.result() is None

    async def run(self) -> None:
        """Run the call until it has ended and is recorded."""
        self._greet()
        self._connecting = self._spawn(self._connect_model())
        self._set_alarm()
        finish = await self._finished
        await self._let_go()
        if finish is None:
            await self._record_rest()
        else:
            await self._record_end(finish)

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
        self._received += 1
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

    def may_move(self, *, is_late: bool) -> bool:
        """Return True if another engine may go on with the call now: at a turn boundary.

        :param is_late: it waits for running tools and a goodbye only.
        """
        if not self._key or self._session.is_over or self._finished.done() or self._is_moving:
            return False
        return self._session.is_at_rest or self._has_to_leave(is_late)

    def move(self, *, is_late: bool) -> None:
        """Let another engine go on with the call."""
        self._moving = self._spawn(self._hand_over("engine_stopping", is_late=is_late))

    @property
    def _is_moving(self) -> bool:
        return self._moving is not None and not self._moving.done()

    async def _hand_over(self, reason: MoveReason, *, is_late: bool = False) -> None:
        """Store the conversation for the next stream, and close the sockets: Twilio asks for it.

        If something happens while it is stored, it is stored again. If that keeps happening, or
        this is no turn boundary any more, the call stays until the next look, if it can. Once
        another stream has the call, nothing is stored: it may be one to this engine.
        """
        if self.is_closed and not self._finished.done():  # Twilio may ask at once
            await self._is_given_out(reason)
        if self._has_to_leave(is_late):
            await self._end_response()
        for _ in range(HAND_OVER_TRIES):
            if self._session.is_over or self._finished.done():
                return
            if not (self._session.is_at_rest or self._has_to_leave(is_late)):
                break
            received = self._received
            if not await self._is_given_out(reason):
                await self._do_without()
                return
            if received == self._received:
                self.leave()
                return
        if self._has_to_leave(is_late):
            self.leave()
        else:
            await self._take_back()

    def _has_to_leave(self, is_late: bool) -> bool:
        """Return True if the call does not wait for a turn boundary."""
        return self.is_closed or (is_late and self._session.may_be_cut)

    async def _end_response(self) -> None:
        """Wait a moment for the model's report of a response that the move cuts short."""
        self.receive(events.MoveDue())
        for _ in range(CUT_LOOKS):
            if not self._session.is_responding:
                return
            await asyncio.sleep(CUT_LOOK_S)

    async def _is_given_out(self, reason: MoveReason) -> bool:
        """Store the conversation for the next stream; return False if that failed."""
        outcome = self._outcome(reason)
        closed_at = None if self._closed_at is None else self._wall_time(self._closed_at)
        try:
            async with asyncio.timeout(NEXT_WRITTEN_S):
                return await in_database(
                    transactions.hand_over, self._call, outcome, self._engine_id, closed_at
                )
        except Exception as error:  # the next moment may be better
            log.warning("call_not_handed_over", error=type(error).__name__)
            return False

    async def _take_back(self) -> None:
        """Hold the call again: this is no moment to move it. The next look may find another."""
        try:
            async with asyncio.timeout(NEXT_WRITTEN_S):
                await in_database(transactions.take_back, self._call, self._engine_id)
        except Exception as error:  # then the call is ended as lost and resumed
            log.warning("call_not_taken_back", error=type(error).__name__)

    async def _do_without(self) -> None:
        """Go on without a next stream. If this one is gone, the call ends."""
        if self.is_closed:
            self._loop.call_soon(self._tell_close)
            self.receive(events.CallerHungUp())
        else:  # what failed may have been stored
            await self._take_back()

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
        if not self._key or self._session.is_over:
            self.caller_closed()
        elif self._closed_at is None:
            self._closed_at = self._loop.time()
            self.receive(events.StreamBroke())
            if self._session.is_over:  # the stream broke too often
                self._loop.call_soon(self._tell_close)

    async def give_out(self) -> None:
        """Let another stream go on with the call, since Twilio says that this one is over.

        Twilio may know before this process does. A request during which audio arrives is a
        repetition, or not from Twilio, and changes nothing.
        """
        if not self._key or self._session.is_over:
            return
        for _ in range(SILENT_LOOKS):
            if self.is_closed or not await self._is_alive():
                break
        else:
            return
        self.caller_lost()
        if self._moving is not None:
            await asyncio.wait([self._moving])

    async def _is_alive(self) -> bool:
        """Return True if the caller's socket brings something: Twilio sends 50 frames a second."""
        before = self._caller.arrivals
        await asyncio.sleep(SILENT_S)
        return self._caller.arrivals != before

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
                self._spawn(self._keep_greeting(action.spoken))
            case actions.RunTool():
                self._tools[action.call_id] = self._spawn(self._run_tool(action))
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
                self._closing = self._spawn(self._close_caller(action.after))
            case actions.GiveOut():
                if not self._is_moving:
                    self._moving = self._spawn(self._hand_over("stream_broken"))
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
        self._connecting = self._spawn(self._connect_model(another.after_s))

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
        try:
            await in_database(greetings.keep, account_id, self._plan, spoken, now)
        except Exception as error:
            log.warning("greeting_not_kept", error=type(error).__name__)

    async def _close_caller(self, after: AfterStream) -> None:
        """Store what Twilio is to do next, and only then end the stream so that it asks."""
        try:
            async with asyncio.timeout(NEXT_WRITTEN_S):
                await in_database(transactions.after_stream_keep, self._call, after)
        except Exception as error:  # Twilio will be told to apologize and hang up
            log.warning("after_stream_not_recorded", error=type(error).__name__)
        await self._end_stream(after)

    async def _end_stream(self, after: AfterStream) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the caller's socket: from now on nothing is relayed or charged."""
        self._note_close()
        self._caller.close()

    def _note_close(self) -> None:
        if self._closed_at is None:
            self._closed_at = self._loop.time()
            self._loop.call_soon(self._tell_close)

    def _tell_close(self) -> None:
        """Record that charging has stopped, unless the whole call ends now as well."""
        if not self._finished.done():
            self._spawn(self._record_close())

    async def _record_close(self) -> None:
        try:
            at = self._wall_time(self._closed_at or self._loop.time())
            await in_database(
                call_audio_ended, call_id=self._call.id, at=at, held_by=self._engine_id
            )
        except Exception as error:  # the end of the call records it too
            log.warning("audio_end_not_recorded", error=type(error).__name__)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
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
            self._closing = self._closing or self._spawn(self._close_caller(Say(APOLOGY)))
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

    async def _record_rest(self) -> None:
        """Write what is left of the timeline of a call that goes on elsewhere."""
        entries = await self._recorder.close()
        try:
            async with asyncio.timeout(NEXT_WRITTEN_S):
                await in_database(
                    call_record,
                    self._call.id,
                    self._call.account_id,
                    entries.events,
                    failed=entries.failed,
                )
        except Exception as error:
            log.warning("call_not_recorded", error=type(error).__name__)

    async def _record_end(self, finish: actions.Finish) -> None:
        """End the call's record; retry while the database is down."""
        end = _End(
            call=self._call,
            reason=finish.reason,
            ended_at=self._wall_time(self._closed_at or finish.ended_at),
            outcome=partial(self._outcome_of, finish.transcript, finish.tool_runs, finish.usage),
            errors=self._errors,
            entries=await self._recorder.close(),
            engine_id=self._engine_id,
        )
        attempt = 0
        while attempt < END_TRIES:
            try:
                await in_database(end_call, end)
                return
            except Exception as error:
                log.error("call_end_not_recorded", error=type(error).__name__, attempt=attempt)
                attempt += not is_outage(error)
                await asyncio.sleep(min(2**attempt, LONGEST_PAUSE_S))

    def _outcome(self, reason: MoveReason = "engine_lost") -> Callable[[], Outcome]:
        """Return a function that saves the conversation so far. It is work for a thread."""
        session = self._session
        snapshot = session.snapshot(reason, self._loop.time()) if self._key else None
        return partial(
            self._outcome_of,
            session.lines(),
            session.tool_runs(),
            session.usage,
            None if snapshot is None else Conversation(snapshot, datetime.now(UTC)),
        )

    def _outcome_of(
        self,
        lines: Sequence[Line],
        tool_runs: Sequence[ToolRun],
        usage: TokenUsage,
        conversation: Conversation | None = None,
    ) -> Outcome:
        transcript = self._in_format(lines)
        tool_calls = [tool_call_line(run, self._wall_time(run.at)) for run in tool_runs]
        billed_from = self._session.billed_from
        return Outcome(
            self._plan.model,
            transcript,
            usage,
            tool_calls=tool_calls,
            billed_from=None if billed_from is None else self._wall_time(billed_from),
            conversation=(
                sealed_conversation(self._call, self._key, conversation) if conversation else b""
            ),
        )

    def _in_format(self, lines: Sequence[Line]) -> list[dict[str, Any]]:
        """Return the turns in the format of onCallEnd."""
        return [
            transcript_line(
                line.role, line.text, self._wall_time(line.at), interrupted=line.interrupted
            )
            for line in lines
        ]

    def _wall_time(self, at: float) -> datetime:
        return self._started_at + timedelta(seconds=at - self._started)


@dataclass(frozen=True, slots=True)
class _End:
    call: Call
    reason: EndedReason
    ended_at: datetime
    outcome: Callable[[], Outcome]
    errors: list[tuple[OnErrorCode, str]]
    entries: Entries
    engine_id: str


def end_call(end: _End) -> None:
    """Record the end, even of a call that was ended as lost meanwhile.

    The watch over all calls may resume the call at this very moment. Then it must be ended again.
    """
    if not _is_ended_now(end):
        call_resume(call_id=end.call.id, held_by=end.engine_id)
        _is_ended_now(end)


def _is_ended_now(end: _End) -> bool:
    """End the record; return False if it has ended already."""
    return call_end(
        call_id=end.call.id,
        status=Call.Status.COMPLETED,
        reason=end.reason,
        ended_at=end.ended_at,
        outcome=_come_to(end),
        errors=end.errors,
        events=end.entries.events,
        failed=end.entries.failed,
        held_by=end.engine_id,
    )


def _come_to(end: _End) -> Outcome | None:
    """Return the conversation's outcome, or None after a bug: then the last recorded outcome
    counts.
    """
    try:
        return end.outcome()
    except Exception as error:
        log.error("call_outcome_unknown", error=type(error).__name__)
        return None
