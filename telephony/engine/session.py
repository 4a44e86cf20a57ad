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
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Any

from telephony.engine import actions, events, model_reader, model_writer
from telephony.engine.actions import Action
from telephony.engine.after_stream import APOLOGY, AfterStream, Dial, Say
from telephony.engine.answers import FATAL_CODES, Answers
from telephony.engine.bounds import clipped, sentence
from telephony.engine.codes import (
    EndedReason,
    ErrorCode,
    EventKind,
    OnErrorCode,
    model_error_code,
)
from telephony.engine.context import CallContext, ModelFailed
from telephony.engine.costs import TokenUsage
from telephony.engine.dtmf import is_dialable, tones
from telephony.engine.events import Event
from telephony.engine.keypad import Keypad
from telephony.engine.plan import CallPlan, is_phone_number
from telephony.engine.playback import Playback
from telephony.engine.recent_ids import RecentIds
from telephony.engine.startup import Startup
from telephony.engine.timers import Key, Timer, Timers, ToolTimer
from telephony.engine.tool_runs import ToolRun
from telephony.engine.toolbox import BuiltIn, Toolbox
from telephony.engine.transcript import Line, Transcript

GOODBYE_S = 15.0  # at most, for the caller to hear the goodbye
# For the last transcripts after the end of the call. This time is not billed.
TRANSCRIPT_S = 5.0
SPEECH_S = 60.0  # of the caller's speech, after which we assume that its end was not reported
MOST_TYPED = 2_000  # characters of a typed message
MOST_TYPED_LINES = 500
MOST_FRUITLESS = 10  # silent responses in a row whose tool calls needed no backend
MOST_EARLY = 50  # turns of keys or text that wait until the model is configured

# Corrects what the model was told: that it ends the call.
STAYED = (
    "The caller spoke before the call was ended or transferred, so it goes on. If that is still "
    "wanted, call the tool again."
)

# One of our messages crossed one of the model's; nothing is lost.
_ALREADY_ACTIVE = "conversation_already_has_active_response"
HARMLESS_CODES = frozenset({"response_cancel_not_active", "input_audio_buffer_commit_empty"})


class Phase(Enum):
    STARTING = auto()
    TALKING = auto()
    LEAVING = auto()
    DRAINING = auto()
    FINISHED = auto()


class CallSession:
    """The state of a call whose media stream is open."""

    def __init__(
        self, plan: CallPlan, now: float, *, may_call: Callable[[str], bool] = is_phone_number
    ) -> None:
        """``may_call`` returns True for a number to which ``transfer_call`` may transfer."""
        self._plan = plan
        self._may_call = may_call
        self.phase = Phase.STARTING

        self._context = CallContext(now)
        self.playback = Playback()
        self._answers = Answers(self._context, self.playback)
        self._startup = Startup(self._context, plan, self._answers)
        self._keypad = Keypad(self._context)
        self._tools = Toolbox(self._context, plan)
        self._transcript = Transcript()
        self._transcribed = RecentIds()
        self._usage = TokenUsage()

        self._speech_item = ""
        self._spoke_since = now
        self._waiting_since: float | None = None  # for a response
        # The item of a response that the caller does not hear yet, and since when they wait for it.
        self._awaited: tuple[str, float] | None = None
        self._is_silent = True  # no one has spoken yet
        self._started = now
        # Items with turns that the caller typed or pressed before the model was configured.
        self._early: list[dict[str, Any]] = []
        self._typed_lines = 0
        self._fruitless = 0  # silent responses in a row whose tool calls needed no backend
        self._heard_before = 0  # bytes of audio that had been sent at the last of them
        # How the call ends after the goodbye, once there is one.
        self._leave: tuple[EndedReason, Dial | None] = (EndedReason.INTERNAL_ERROR, None)
        self._reason = EndedReason.INTERNAL_ERROR  # until the call has ended
        self._ended_at = now
        self._billed_from: float | None = None
        self._has_responded = False  # other than with a failure
        self._is_patient = True  # waits for what the model has yet to report

        self._context.start_timer(Timer.LENGTH, plan.max_duration_seconds)

    # The interface for the runner

    @property
    def deadline(self) -> float | None:
        """The time at which :class:`TimePassed` is due; None once the session is finished."""
        return self._context.timers.next()

    @property
    def billed_from(self) -> float | None:
        """The time from which minutes are billed: when the model accepted its configuration.

        None until then, and for a call whose model failed before it had responded once: an agent
        that only listens has responded too, with nothing to say.
        """
        return self._billed_from

    @property
    def is_over(self) -> bool:
        """Return True once the call has ended for the caller."""
        return self.phase is Phase.DRAINING or self.phase is Phase.FINISHED

    @property
    def usage(self) -> TokenUsage:
        return self._usage

    def lines(self) -> tuple[Line, ...]:
        """Return the transcript so far."""
        return self._transcript.lines()

    def tool_runs(self) -> tuple[ToolRun, ...]:
        """Return the tool calls to the customer's backend so far."""
        return self._tools.kept()

    def receive(self, event: Event, now: float) -> list[Action]:
        """Process an event; return the actions to take, in order."""
        self._context.now = now
        self._context.actions = []
        if self.phase is Phase.DRAINING:
            self._receive_last(event)
        elif self.phase is not Phase.FINISHED:
            self._unless_model_fails(lambda: _HANDLERS[type(event)](self, event))
        return self._context.actions

    def _unless_model_fails(self, step: Callable[[], None]) -> None:
        try:
            step()
        except ModelFailed as failure:
            self._fail(failure.code, str(failure), EndedReason.MODEL_ERROR)

    # The model connects

    def _model_ready(self, event: events.ModelReady) -> None:
        if self._context.is_connected:
            self._note(EventKind.REPEATED, what="session.created")
            return
        self._context.is_connected = True
        self._startup.begin()

    def _model_configured(self, event: events.ModelConfigured) -> None:
        if self.phase is Phase.STARTING and self._context.is_connected:
            self.phase = Phase.TALKING
            self._billed_from = self._now
            self._startup.succeeded()
            self._rest()
            early, self._early = self._early, []
            for item in early:
                self._ask_about(item)

    def _model_unreachable(self, event: events.ModelUnreachable) -> None:
        self._startup.unreachable(event)

    # The caller speaks, presses keys, hangs up

    def _speech_started(self, event: events.SpeechStarted) -> None:
        self._spoke_since, self._waiting_since, self._awaited = self._now, None, None
        self._speech_item = event.item_id
        self._is_silent = False
        self._answers.caller_speaks()
        self._timers.clear(Timer.IDLE)
        self._context.start_timer(Timer.SPEECH, SPEECH_S)
        if event.item_id:
            self._transcript.begin(event.item_id, "user", self._now)
        if self.playback.is_outstanding:
            self._interrupt()
        self._stay()

    def _interrupt(self) -> None:
        """Stop the audio, and tell the model how much of it the caller heard."""
        self._do(actions.ClearAudio())
        cleared = self.playback.clear(self._now)
        for unheard in cleared:
            self._transcript.interrupt(unheard.item_id)
            if not unheard.item_id.startswith(model_writer.OWN_ITEM):
                self._tell(model_writer.truncate(unheard.item_id, unheard.heard_ms))
        self._note(EventKind.INTERRUPTED, heardMs=cleared[0].heard_ms)

    def _stay(self) -> None:
        """Cancel the goodbye: the caller has more to say, so the model decides again."""
        if self.phase is Phase.LEAVING:
            self.phase = Phase.TALKING
            self._timers.clear(Timer.GOODBYE)
            item_id = self._context.own_item()
            self._answers.add_item(model_writer.user_text(item_id, STAYED, role="system"))

    def _speech_stopped(self, event: events.SpeechStopped | None = None) -> None:
        if self._speaking:
            self._note(EventKind.CALLER_SPOKE, ms=self._context.ms_since(self._spoke_since))
        self._waiting_since = self._now
        self._timers.clear(Timer.SPEECH)
        self._answers.caller_has_spoken()
        self._rest()

    def _speech_committed(self, event: events.SpeechCommitted) -> None:
        self._speech_became(event.item_id)

    def _speech_became(self, item_id: str) -> None:
        """End the caller's speech: it has become an item, even if its end was not reported."""
        if self._speaking and not self.is_over and item_id in ("", self._speech_item):
            self._speech_stopped()

    def _speech_end_lost(self) -> None:
        """Assume that the caller has stopped: no one speaks that long without a pause.

        In case they do, wait at least as long again before silence ends the call.
        """
        self._note(EventKind.SPEECH_END_LOST)
        self._speech_stopped()
        self._timers.clear(Timer.ANSWER)
        if not self._is_busy:
            self._context.start_timer(Timer.IDLE, max(SPEECH_S, self._inactivity_s))

    def _digit_pressed(self, event: events.DigitPressed) -> None:
        is_complete = self._keypad.press(event.digit)
        self._rest()
        if is_complete:
            self._digits_complete()

    def _digits_complete(self) -> None:
        self._say_as_caller(self._keypad.take())

    def _caller_typed(self, event: events.CallerTyped) -> None:
        """Process a typed message as a turn of the caller; only test calls have them."""
        text = event.text[:MOST_TYPED].strip()
        if not text or not self._plan.is_test or self._typed_lines >= MOST_TYPED_LINES:
            return
        self._typed_lines += 1
        self._note(EventKind.TEXT_TYPED)
        if self.phase is not Phase.STARTING:
            # Interrupt as speech does: the model stops by itself only for speech.
            if self.playback.is_outstanding:
                self._interrupt()
            self._stay()
            if self._answers.is_active:
                self._tell(model_writer.response_cancel())
        self._say_as_caller(text)
        self._rest()

    def _say_as_caller(self, text: str) -> None:
        """Add a turn of the caller that was not spoken, and request a response to it."""
        item = model_writer.user_text(self._write_down(text), text)
        if self.phase is not Phase.STARTING:
            self._ask_about(item)
        elif len(self._early) < MOST_EARLY:
            self._early.append(item)

    def _write_down(self, text: str) -> str:
        """Add a turn that was not spoken to the transcript; return the id of its item."""
        item_id = self._context.own_item()
        self._transcript.write(item_id, "user", text, self._now)
        return item_id

    def _ask_about(self, item: dict[str, Any]) -> None:
        self._waiting_since = self._now
        self._answers.add_item(item)
        self._answers.ask()

    def _caller_hung_up(self, event: events.CallerHungUp) -> None:
        self._end(EndedReason.CALLER_HANGUP)

    # The caller hears

    def _mark_played(self, event: events.MarkPlayed) -> None:
        if played := self.playback.played(event.name, self._now):
            self._note_heard(*played)
        if self.phase is Phase.LEAVING:
            self._context.start_timer(Timer.GOODBYE, GOODBYE_S)
        self._rest()
        self._leave_when_heard()

    def _note_heard(self, item_id: str, played_ms: int) -> None:
        """Note how long the caller waited to hear a response, with the first mark in it."""
        if self._awaited and self._awaited[0] == item_id:
            since, self._awaited = self._awaited[1], None
            began = max(self._context.ms_since(since) - played_ms, 0)
            self._note(EventKind.AGENT_HEARD, latencyMs=began)

    def _marks_overdue(self) -> None:
        """Assume that the caller has heard everything, if enough time has passed for it."""
        if self.playback.is_outstanding and self._now >= self.playback.overdue_at:
            self._note(EventKind.MARKS_LOST)
            self.playback.give_up()
        self._rest()
        self._leave_when_heard()

    def _agent_audio_started(self, event: events.AgentAudioStarted) -> None:
        if self._waiting_since is not None:
            self._note(EventKind.AGENT_SPOKE, latencyMs=self._context.ms_since(self._waiting_since))
            self._awaited = (event.item_id, self._waiting_since)
        elif self._is_silent:
            self._note(EventKind.GREETED, ms=self._context.ms_since(self._started))
        self._waiting_since, self._is_silent = None, False
        self._rest()

    def _agent_audio_ended(self, event: events.AgentAudioEnded) -> None:
        self._mark_end(self.playback.end(event.item_id))

    def _mark_end(self, mark: str | None) -> None:
        if mark:
            self._do(actions.SendMark(mark))
        self._rest()

    # The conversation

    def _item_added(self, event: events.ItemAdded) -> None:
        self._answers.item_added(event.item_id)
        if event.type == "message" and event.role == "assistant":
            self._transcript.begin(event.item_id, "assistant", self._now)
        self._transcript.place(event.item_id, event.previous_item_id)
        if event.role == "user":
            self._speech_became(event.item_id)

    def _caller_transcribed(self, event: events.CallerTranscribed) -> None:
        item_id = event.item_id or self._context.own_item()
        says_something = event.text or event.seconds
        if says_something and not self._transcribed.add(item_id):
            self._note(EventKind.REPEATED, what="a transcript")
            return
        self._transcript.write(item_id, "user", event.text, self._now)
        self._usage += TokenUsage(transcribed_seconds=event.seconds)
        if event.item_id:
            self._speech_became(event.item_id)

    def _agent_transcribed(self, event: events.AgentTranscribed) -> None:
        item_id = event.item_id or self._context.own_item()
        self._transcript.write(item_id, "assistant", event.text, self._now)

    def _response_started(self, event: events.ResponseStarted) -> None:
        self._answers.started(event.response_id)
        self._rest()

    def _response_overdue(self) -> None:
        if self._answers.is_lost():
            self._response_over()

    def _response_done(self, event: events.ResponseDone) -> None:
        if not self._is_news(event):
            return
        self._note(EventKind.RESPONSE_DONE, status=event.status)
        if event.unread:
            self._note(EventKind.NOT_UNDERSTOOD, what=f"{event.unread} items of a response")
        if event.status in ("failed", "cancelled"):
            self._tools.drop(event.calls)
        if event.status == "failed":
            self._answers.failed(event)
        elif event.status != "cancelled":
            took = self._run_calls(event) or bool(event.calls and self._tools)
            self._answers.look_at(event, took=took, is_last=self.phase is Phase.LEAVING)
        self._response_over()

    def _is_news(self, event: events.ResponseDone) -> bool:
        """Record the usage and words of a response; return False if its end is a repetition."""
        if not self._answers.done(event):
            return False
        self._usage += event.usage
        self._has_responded |= event.status != "failed"
        for said in event.said:
            self._transcript.complete(said.item_id, "assistant", said.text, self._now)
        return True

    def _response_over(self) -> None:
        self._mark_end(self.playback.end_all())
        self._answers.send_due()
        self._leave_when_heard()

    def _model_errored(self, event: events.ModelErrored) -> None:
        if event.code in HARMLESS_CODES:
            return
        if event.code == _ALREADY_ACTIVE:
            self._answers.collided()
            return
        self._note(EventKind.MODEL_ERROR, code=event.code)
        if event.code in FATAL_CODES:
            raise ModelFailed(model_error_code(event.code), event.message)
        if self.phase is Phase.STARTING and self._startup.is_refused_by(event):
            self._startup.refused(event)
        elif self._answers.is_refused_by(event):
            self._answers.refused(event)
        elif self.phase is Phase.STARTING:
            self._startup.last_error = event.message

    def _not_understood(self, event: events.NotUnderstood) -> None:
        self._note(EventKind.NOT_UNDERSTOOD, what=clipped(event.what, model_reader.LONGEST_NAME))

    def _model_closed(self, event: events.ModelClosed) -> None:
        reason = f": {event.reason}" if event.reason else ""
        message = sentence(f"The connection to OpenAI was closed (code {event.code}){reason}")
        self._fail(ErrorCode.MODEL_DISCONNECTED, message, EndedReason.MODEL_DISCONNECTED)

    # Tools

    def _run_calls(self, response: events.ResponseDone) -> bool:
        """Run the tool calls of a response; request one response after the last result.

        Return True if there was a call to run or to answer.
        """
        taken = self._tools.take(response.calls)
        is_said = self._answers.spoke(response) or bool(response.written)
        for call_id, error in taken.refused:
            self._answer_call(call_id, {"error": error})
        for call in taken.builtin:
            self._run_builtin(call, is_said=is_said)
        if taken.batch:
            self._fruitless = 0
        elif taken.refused or taken.builtin:
            self._ask_unless_in_circles()
        return bool(taken.batch or taken.builtin or taken.refused)

    def _ask_unless_in_circles(self) -> None:
        """Continue after calls that needed no backend; a model may make them in a loop."""
        is_heard = self.playback.total > self._heard_before
        self._fruitless = 0 if is_heard else self._fruitless + 1
        self._heard_before = self.playback.total
        if self._fruitless > MOST_FRUITLESS:
            self._note(EventKind.NOT_SPOKEN, why="tools")
        else:
            self._ask_after_answers()

    def _tool_returned(self, event: events.ToolReturned) -> None:
        told = model_writer.as_text(event.result)
        self._tool_ended(self._tools.returned(event.call_id, told), event.call_id, told)

    def _tool_failed(self, event: events.ToolFailed) -> None:
        is_last = self._tools.failed(event.call_id, event.message)
        self._tool_ended(is_last, event.call_id, {"error": event.message})

    def _tool_timed_out(self, call_id: str) -> None:
        why = "The tool did not respond in time."
        self._tool_ended(self._tools.timed_out(call_id, why), call_id, {"error": why})

    def _tool_ended(self, is_last: bool | None, call_id: str, answer: Any) -> None:
        """Send the model the result of a tool, if it was pending and the call continues."""
        if is_last is None or self.is_over:
            return
        self._answer_call(call_id, answer)
        if is_last:
            self._ask_after_answers()
        self._rest()

    def _answer_call(self, call_id: str, output: Any) -> None:
        self._answers.add_item(
            model_writer.function_output(self._context.own_item(), call_id, output)
        )

    def _ask_after_answers(self) -> None:
        """Request a response to the results, unless the model is saying goodbye."""
        if self.phase is not Phase.LEAVING:
            self._answers.ask()

    def _run_builtin(self, call: BuiltIn, *, is_said: bool) -> None:
        match call.name:
            case "end_call":
                reason = EndedReason.AGENT_HANGUP
                self._prepare_to_leave(call.call_id, reason, None, is_said=is_said)
            case "transfer_call":
                self._transfer(call.call_id, call.arguments.get("to"), is_said=is_said)
            case "send_dtmf":
                self._send_dtmf(call.call_id, call.arguments.get("digits"))

    def _transfer(self, call_id: str, to: Any, *, is_said: bool) -> None:
        numbers = self._plan.transfer_numbers
        if numbers and to not in numbers:
            error = f"This call may only be transferred to {' or '.join(numbers)}."
        elif not (isinstance(to, str) and is_phone_number(to) and self._may_call(to)):
            error = "Give a number that may be called, in E.164: +15551234567."
        else:
            reason = EndedReason.TRANSFERRED
            self._prepare_to_leave(call_id, reason, Dial(to), is_said=is_said)
            return
        self._answer_call(call_id, {"error": error})

    def _send_dtmf(self, call_id: str, digits: Any) -> None:
        if not is_dialable(digits):
            self._answer_call(call_id, {"error": "Send up to 40 of 0-9, *, #, A-D and w."})
            return
        item_id, payload = self._context.own_item(), tones(digits)
        size = model_writer.audio_size(payload)
        # The last mark follows with the end of the response.
        mark = self.playback.sent(item_id, size, self._now)
        self._do(actions.PlayAudio(payload))
        if mark:
            self._do(actions.SendMark(mark))
        self._answer_call(call_id, {"sent": digits})

    # The end

    def _prepare_to_leave(
        self, call_id: str, reason: EndedReason, after: Dial | None, *, is_said: bool
    ) -> None:
        """End the call when the caller has heard what the model says with or after this call.

        A second call changes nothing, but a transfer replaces a hang-up, never the reverse.
        """
        is_leaving = self.phase is Phase.LEAVING
        if after or not is_leaving:
            self._leave = (reason, after)
        if not is_leaving:
            self.phase = Phase.LEAVING
            self._context.start_timer(Timer.GOODBYE, GOODBYE_S)
        if is_said or is_leaving:
            self._answer_call(call_id, {"ok": True})
        else:
            say = "Tell the caller in one short sentence; then it is done."
            self._answer_call(call_id, {"ok": True, "next": say})
            self._answers.ask()

    def _leave_when_heard(self) -> None:
        if (
            self.phase is Phase.LEAVING
            and not self.playback.is_outstanding
            and not self._answers.is_busy
        ):
            self._end(*self._leave)

    def _hangup_requested(self, event: events.HangupRequested) -> None:
        self._end(EndedReason.API_HANGUP)

    def _fail(self, code: OnErrorCode, message: str, reason: EndedReason) -> None:
        """End the call because the model failed; a call that was already ending ends as planned."""
        self._do(actions.ReportError(code, clipped(sentence(message))))
        self._is_patient = False
        if not (self._has_responded or self.playback.total):
            self._billed_from = None
        self._end(*(self._leave if self.phase is Phase.LEAVING else (reason, Say(APOLOGY))))

    def _end(self, reason: EndedReason, after: AfterStream = None) -> None:
        """End the caller's side; the model's continues until the last transcript arrives."""
        if self.is_over:
            return
        self.phase = Phase.DRAINING
        self._reason, self._ended_at = reason, self._now
        if self._keypad.is_used:
            self._write_down(self._keypad.take())
        for unheard in self.playback.close(self._now):
            self._transcript.interrupt(unheard.item_id)
        self._timers.clear_all(but=ToolTimer)  # running tools finish: their effects are real
        self._context.start_timer(Timer.TRANSCRIPT, TRANSCRIPT_S)
        if reason is not EndedReason.CALLER_HANGUP:
            self._do(actions.CloseCaller(after))
        if self._is_patient:
            if self._speaking:
                self._tell(model_writer.commit_audio())
            if self._answers.is_active:
                self._tell(model_writer.response_cancel())
        self._finish_when_complete()

    def _receive_last(self, event: Event) -> None:
        """Process an event after the end of the call: only its record still matters."""
        match event:
            case events.ItemAdded():
                self._item_added(event)
            case events.CallerTranscribed():
                self._caller_transcribed(event)
            case events.AgentTranscribed():
                self._agent_transcribed(event)
            case events.ResponseStarted():  # to the last words; no one will hear it
                self._answers.started(event.response_id)
                self._tell(model_writer.response_cancel())
            case events.ResponseDone():
                if self._is_news(event):
                    self._tools.drop(event.calls)
            case events.ToolReturned():
                self._tool_returned(event)
            case events.ToolFailed():
                self._tool_failed(event)
            case events.ModelClosed() | events.ModelUnreachable():
                self._is_patient = False
            case events.TimePassed():
                self._time_passed(event)
        self._finish_when_complete()

    def _finish_when_complete(self) -> None:
        is_told = self._transcript.is_complete and not self._answers.is_active
        if (is_told or not self._is_patient) and not self._tools:
            self._finish()

    def _finish(self) -> None:
        self.phase = Phase.FINISHED
        self._timers.clear_all()
        self._do(
            actions.Finish(
                self._reason,
                self._ended_at,
                self._transcript.lines(),
                self._tools.kept(),
                self._usage,
            )
        )

    # Time

    def _time_passed(self, event: events.TimePassed) -> None:
        for key in self._timers.due(self._now):
            if not self.is_over or isinstance(key, ToolTimer) or key is Timer.TRANSCRIPT:
                self._unless_model_fails(partial(self._timer_expired, key))

    def _timer_expired(self, key: Key) -> None:
        match key:
            case ToolTimer():
                self._tool_timed_out(key.call_id)
            case Timer.STARTUP:
                self._startup.overdue()
            case Timer.CONFIGURE:
                self._startup.configure()
            case Timer.LENGTH:
                self._end(EndedReason.MAX_DURATION)
            case Timer.IDLE:
                if not self.playback.is_outstanding:
                    self._end(EndedReason.INACTIVITY)
            case Timer.GOODBYE:
                self._end(*self._leave)
            case Timer.DIGITS:
                self._digits_complete()
            case Timer.HEARD:
                self._marks_overdue()
            case Timer.SPEECH:
                self._speech_end_lost()
            case Timer.ASKED:
                self._answers.not_begun()
            case Timer.ANSWER:
                self._answers.not_answered()
            case Timer.ACTIVE:
                self._response_overdue()
            case Timer.RESPONSE:
                self._answers.send_due()
            case Timer.TRANSCRIPT:
                self._is_patient = False

    @property
    def _speaking(self) -> bool:
        return self._answers.is_caller_speaking

    @property
    def _is_busy(self) -> bool:
        return self._speaking or bool(self._tools) or self.playback.is_outstanding

    @property
    def _inactivity_s(self) -> float:
        return self._plan.inactivity_timeout_ms / 1000

    def _rest(self) -> None:
        """Restart the wait for marks, and the one for silence unless the call is busy."""
        if self.playback.is_outstanding:
            self._timers.set(Timer.HEARD, self.playback.overdue_at)
        else:
            self._timers.clear(Timer.HEARD)
        if self._is_busy:
            self._timers.clear(Timer.IDLE)
        else:
            self._context.start_timer(Timer.IDLE, self._inactivity_s)

    # Shortcuts

    @property
    def _now(self) -> float:
        return self._context.now

    @property
    def _timers(self) -> Timers:
        return self._context.timers

    def _tell(self, event: dict[str, Any]) -> None:
        self._context.tell(event)

    def _note(self, kind: EventKind, **detail: Any) -> None:
        self._context.note(kind, **detail)

    def _do(self, action: Action) -> None:
        self._context.do(action)


_HANDLERS: dict[type[Event], Any] = {
    events.DigitPressed: CallSession._digit_pressed,
    events.CallerTyped: CallSession._caller_typed,
    events.MarkPlayed: CallSession._mark_played,
    events.CallerHungUp: CallSession._caller_hung_up,
    events.ModelReady: CallSession._model_ready,
    events.ModelConfigured: CallSession._model_configured,
    events.ModelErrored: CallSession._model_errored,
    events.NotUnderstood: CallSession._not_understood,
    events.ModelClosed: CallSession._model_closed,
    events.ModelUnreachable: CallSession._model_unreachable,
    events.SpeechStarted: CallSession._speech_started,
    events.SpeechStopped: CallSession._speech_stopped,
    events.SpeechCommitted: CallSession._speech_committed,
    events.ItemAdded: CallSession._item_added,
    events.CallerTranscribed: CallSession._caller_transcribed,
    events.AgentTranscribed: CallSession._agent_transcribed,
    events.AgentAudioStarted: CallSession._agent_audio_started,
    events.AgentAudioEnded: CallSession._agent_audio_ended,
    events.ResponseStarted: CallSession._response_started,
    events.ResponseDone: CallSession._response_done,
    events.ToolReturned: CallSession._tool_returned,
    events.ToolFailed: CallSession._tool_failed,
    events.HangupRequested: CallSession._hangup_requested,
    events.TimePassed: CallSession._time_passed,
}
