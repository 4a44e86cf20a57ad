"""The state machine of one call: it decides what happens next, and performs no I/O.

``receive(event, now)`` returns the actions to take, in order; ``deadline`` is when ``TimePassed``
is due. ``now`` is in seconds on any monotonic clock. Audio bypasses the session: ``playback``
counts it.

No wait is unlimited: each wait for an event from a peer has a timer (``telephony.engine.timers``).
A call goes through these phases::

                the model accepts           end_call, transfer_call
                its configuration           are called
    STARTING ───────────────────▶ TALKING ──────────────────────────▶ LEAVING
        │                           │  ◀──────────────────────────────  │
        │                           │    the caller speaks before       │
        │                           │    hearing all of the goodbye     │
        └─────────────┬─────────────┴───────────────┬───────────────────┘
                      │ the caller hangs up,        │ the caller heard the goodbye,
                      │ a limit is reached,         │ or 15 seconds have passed
                      │ the model fails             │
                      └──────────────┬──────────────┘
                                     ▼
                                 DRAINING: the caller's stream is closed. The session waits for
                                     │     the last transcripts and the results of running tools.
                                     ▼
                                 FINISHED: the session ignores all events.

A session of the model that breaks, fails or becomes too old takes the call from TALKING back to
STARTING (``telephony.engine.renewal``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from telephony.engine import events
from telephony.engine.actions import Action
from telephony.engine.codes import EndedReason, EventKind
from telephony.engine.commands import CancelResponse
from telephony.engine.context import ModelFailed
from telephony.engine.costs import TokenUsage
from telephony.engine.events import Event
from telephony.engine.greeting import Greeting
from telephony.engine.hearing import Hearing
from telephony.engine.leaving import Leaving
from telephony.engine.model_trouble import ModelTrouble
from telephony.engine.moving import snapshot_of, take_up
from telephony.engine.phase import Phase
from telephony.engine.plan import CallPlan, is_phone_number
from telephony.engine.playback import Playback
from telephony.engine.record import Record
from telephony.engine.renewal import Renewal
from telephony.engine.snapshot import MoveReason, Snapshot
from telephony.engine.speaking import Speaking
from telephony.engine.startup import Startup
from telephony.engine.state import CallState
from telephony.engine.timers import Key, Timer, ToolTimer
from telephony.engine.tool_runs import ToolRun
from telephony.engine.tool_turns import ToolTurns
from telephony.engine.transcript import Line


class CallSession:
    """The state of a call whose media stream is open."""

    def __init__(
        self,
        plan: CallPlan,
        now: float,
        *,
        unix_now: float | None = None,
        may_call: Callable[[str], bool] = is_phone_number,
    ) -> None:
        """``may_call`` returns True for a number to which ``transfer_call`` may transfer.

        ``unix_now`` is the same moment as ``now`` in Unix seconds. Without it, the times at which
        the model's sessions expire mean nothing.
        """
        self._unix_ahead = None if unix_now is None else unix_now - now
        state = self._state = CallState(plan, now, may_call)
        self._leaving = Leaving(state)
        self._startup = Startup(state)
        self._renewal = Renewal(state, self._startup)
        self._trouble = ModelTrouble(state, self._startup, self._renewal, self._leaving)
        self._hearing = Hearing(state, self._leaving)
        self._record = Record(state, self._hearing)
        self._tools = ToolTurns(state, self._leaving)
        self._greeting = Greeting(state, self._startup)
        self._speaking = Speaking(state, self._leaving, self._record, self._tools, self._greeting)
        state.context.start_timer(Timer.LENGTH, plan.max_duration_seconds)
        self._handlers = self._all_handlers()

    @classmethod
    def resume(
        cls,
        snapshot: Snapshot,
        now: float,
        *,
        ago: float = 0.0,
        unix_now: float | None = None,
        may_call: Callable[[str], bool] = is_phone_number,
    ) -> CallSession:
        """Continue a call with a new session of the model, which learns what was said.

        :param ago: seconds since the snapshot was taken.
        """
        session = cls(snapshot.plan, now, unix_now=unix_now, may_call=may_call)
        state = session._state
        take_up(state, snapshot, ago=ago)
        state.playback.greeting_audio = None  # a greeting that another engine began is not whole
        owes = snapshot.owes and not snapshot.leave
        session._startup.again(
            is_greeted=snapshot.is_greeted, owes=owes, loses_words=snapshot.loses_words
        )
        state.note(EventKind.MOVED, why=snapshot.reason, ms=round(ago * 1000))
        if snapshot.leave:
            session._leaving.follow(snapshot.leave)
        return session

    def snapshot(self, reason: MoveReason, now: float) -> Snapshot | None:
        """Return the conversation so far; None once it is over, when nothing is left to move."""
        if self.is_over:
            return None
        state, startup, leave = self._state, self._startup, self._leaving.planned
        loses_words = startup.loses_words or state.transcript.awaits_words
        return snapshot_of(
            state, now, reason, owes=startup.owes, loses_words=loses_words, leave=leave
        )

    @property
    def is_at_rest(self) -> bool:
        """Return True at a turn boundary: nobody speaks or is about to, and no tool runs."""
        state = self._state
        return (
            state.phase is Phase.TALKING
            and not state.is_busy
            and not state.is_models_turn
            and not state.keypad.is_used
            and state.transcript.is_complete
        )

    @property
    def may_be_cut(self) -> bool:
        """Return True if the call may move without a turn boundary.

        Not while a tool runs, or the agent says goodbye: both end soon.
        """
        return not self._state.tools and self._state.phase is not Phase.LEAVING

    @property
    def is_responding(self) -> bool:
        return self._state.answers.is_active

    # The interface for the runner

    @property
    def phase(self) -> Phase:
        return self._state.phase

    @property
    def playback(self) -> Playback:
        """What the caller hears; the relay counts the audio in it."""
        return self._state.playback

    @property
    def deadline(self) -> float | None:
        """The time at which :class:`TimePassed` is due; None once the session is finished."""
        return self._state.timers.next()

    @property
    def billed_from(self) -> float | None:
        """The time from which minutes are billed: when the model accepted its configuration.

        None until then, and for a call whose model failed before it had responded once: an agent
        that only listens has responded too, with nothing to say.
        """
        return self._state.billed_from

    @property
    def is_over(self) -> bool:
        """Return True once the call has ended for the caller."""
        return self._state.is_over

    @property
    def usage(self) -> TokenUsage:
        return self._state.usage

    def lines(self) -> tuple[Line, ...]:
        """Return the transcript so far."""
        return self._state.transcript.lines()

    def tool_runs(self) -> tuple[ToolRun, ...]:
        """Return the tool calls to the customer's backend so far."""
        return self._state.tools.kept()

    def receive(self, event: Event, now: float) -> list[Action]:
        """Process an event; return the actions to take, in order."""
        context = self._state.context
        context.now = now
        if self.phase is Phase.DRAINING:
            self._receive_last(event)
        elif self.phase is not Phase.FINISHED:
            self._unless_model_fails(partial(self._handlers[type(event)], event))
        return context.taken()

    def _unless_model_fails(self, step: Callable[[], None]) -> None:
        try:
            step()
        except ModelFailed as failure:
            self._trouble.failed(failure)

    def _all_handlers(self) -> dict[type[Event], Callable[[Any], None]]:
        hearing, record, speaking, tools = self._hearing, self._record, self._speaking, self._tools
        return {
            events.DigitPressed: hearing.digit_pressed,
            events.CallerTyped: hearing.caller_typed,
            events.MarkPlayed: speaking.mark_played,
            events.CallerHungUp: lambda _: self._leaving.end(EndedReason.CALLER_HANGUP),
            events.MoveDue: lambda _: self._speaking.cut_short(),
            events.StreamBroke: lambda _: self._leaving.stream_broke(),
            events.ModelReady: self._startup.ready,
            events.ModelConfigured: self._model_configured,
            events.ModelErrored: self._trouble.errored,
            events.ResponseCollided: lambda _: self._state.answers.collided(),
            events.NotUnderstood: self._trouble.not_understood,
            events.ModelClosed: self._trouble.closed,
            events.ModelUnreachable: self._startup.unreachable,
            events.SpeechStarted: hearing.speech_started,
            events.SpeechStopped: hearing.speech_stopped,
            events.SpeechCommitted: hearing.speech_committed,
            events.ItemAdded: record.item_added,
            events.CallerTranscribed: record.caller_transcribed,
            events.AgentTranscribed: record.agent_transcribed,
            events.Transcribing: record.transcribing,
            events.AgentAudioStarted: speaking.audio_started,
            events.AgentAudioEnded: speaking.audio_ended,
            events.SessionFull: lambda _: self._renewal.session_full(),
            events.SessionUsed: record.session_used,
            events.ResponseStarted: speaking.response_started,
            events.ResponseDone: speaking.response_done,
            events.GreetingRecalled: self._greeting.recalled,
            events.ToolReturned: tools.returned,
            events.ToolFailed: tools.failed,
            events.HangupRequested: lambda _: self._leaving.end(EndedReason.API_HANGUP),
            events.TimePassed: self._time_passed,
        }

    def _model_configured(self, event: events.ModelConfigured) -> None:
        if self._startup.succeeded(self._left_until(event.expires_at)):
            self._hearing.ask_about_early()

    def _left_until(self, unix: float | None) -> float | None:
        """Return the seconds until a Unix time; None if that is not known."""
        if unix is None or self._unix_ahead is None:
            return None
        return unix - self._unix_ahead - self._state.now

    # After the end

    def _receive_last(self, event: Event) -> None:
        """Process an event after the end of the call: only its record still matters."""
        match event:
            case (
                events.ItemAdded()
                | events.CallerTranscribed()
                | events.AgentTranscribed()
                | events.Transcribing()
                | events.SessionUsed()
            ):
                self._handlers[type(event)](event)
            case events.ResponseStarted():  # to the last words; no one will hear it
                self._state.answers.started(event)
                self._state.tell(CancelResponse())
            case events.ResponseDone():
                if self._record.response_done(event):
                    self._state.tools.drop(event.calls)
            case events.ToolReturned() | events.ToolFailed():
                self._handlers[type(event)](event)
            case events.ModelClosed() | events.ModelUnreachable():
                self._leaving.wait_no_longer()
            case events.TimePassed():
                self._time_passed(event)
        self._leaving.finish_when_complete()

    # Time

    def _time_passed(self, event: events.TimePassed) -> None:
        for key in self._state.timers.due(self._state.now):
            if not self.is_over or isinstance(key, ToolTimer) or key is Timer.TRANSCRIPT:
                self._unless_model_fails(partial(self._timer_expired, key))

    def _timer_expired(self, key: Key) -> None:
        match key:
            case ToolTimer():
                self._tools.timed_out(key.call_id)
            case Timer.STARTUP:
                self._startup.overdue()
            case Timer.CONFIGURE:
                self._startup.configure()
            case Timer.LENGTH:
                self._leaving.end(EndedReason.MAX_DURATION)
            case Timer.IDLE:
                if not self.playback.is_outstanding:
                    self._leaving.end(EndedReason.INACTIVITY)
            case Timer.GOODBYE:
                self._leaving.goodbye_over()
            case Timer.VOICE:
                self._leaving.leave_when_heard()
            case Timer.DIGITS:
                self._hearing.digits_complete()
            case Timer.HEARD:
                self._speaking.marks_overdue()
            case Timer.SPEECH:
                self._hearing.speech_end_lost()
            case Timer.ASKED:
                self._state.answers.not_begun()
            case Timer.ANSWER:
                self._state.answers.not_answered()
            case Timer.ACTIVE:
                self._speaking.response_overdue()
            case Timer.RESPONSE:
                self._state.answers.send_due()
            case Timer.RENEWAL:
                self._renewal.due()
            case Timer.TRANSCRIPT:
                self._leaving.wait_no_longer()
