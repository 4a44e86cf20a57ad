"""One call's conversation: everything that decides what happens next, and nothing that does it.

``receive(event, now)`` returns the actions to take, in their order; ``deadline`` is when
``TimePassed`` is due. ``now`` is in seconds on any clock that does not go backwards. Audio passes
by the session: ``playback`` counts it.

Nothing is waited for without end: what only an event of a peer would end has a timer beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from telephony.engine import actions, events, model_reader, model_writer
from telephony.engine.actions import Action, Dial, Say
from telephony.engine.bounds import clipped, sentence
from telephony.engine.costs import TokenUsage
from telephony.engine.dtmf import is_dialable, tones
from telephony.engine.events import Event
from telephony.engine.plan import LONGEST_SPOKEN, CallPlan, is_phone_number
from telephony.engine.playback import Playback
from telephony.engine.responses import PLAIN, Request, ResponseQueue
from telephony.engine.timeline import Timeline
from telephony.engine.timers import Timers
from telephony.engine.tool_runs import MOST_RUNNING, Status, ToolRun, ToolRuns
from telephony.engine.transcript import Line, Transcript

STARTUP_S = 10.0  # for the model to accept its configuration
TOOL_S = 30.0  # for the customer's backend to answer a tool call
GOODBYE_S = 15.0  # for the caller to hear the goodbye, at most
# For the last transcripts, when the call is over: nobody is charged for that any more.
TRANSCRIPT_S = 5.0
ASKED_S = 10.0  # for a response that we asked for to begin
ACTIVE_S = 30.0  # without audio, after which a response that began is not waited for
SPEECH_S = 60.0  # of the caller's, after which we must have missed its end
DIGITS_S = 1.5  # of silence end a row of digits; so does "#"
MOST_DIGITS = 100  # in a row
MOST_TYPED = 2_000  # characters of a line that is typed
MOST_TYPED_LINES = 500
MOST_EARLY = 50  # keys and lines that wait for the model to be configured
RETRY_S = 1.0  # before a failed response is asked for again, times the failures
MOST_FAILURES = 2  # of responses in a row that are tried again

APOLOGY = "We are sorry, but something went wrong. Please call again later. Goodbye."
_EXACTLY = "saying exactly this, and nothing else: "
_FILTERED = (
    "Tell the caller in one short sentence that you cannot say that, and ask how else you can help."
)

# After these OpenAI serves nothing more on this socket, whatever we send.
FATAL_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "model_not_found",
        "session_expired",
    }
)
# These pass: the same request may be served a moment later.
PASSING_CODES = frozenset({"server_error", "rate_limit_exceeded", "slow_down"})
# One of our messages crossed one of the model's: nothing is lost.
_ALREADY_ACTIVE = "conversation_already_has_active_response"
HARMLESS_CODES = frozenset({"response_cancel_not_active", "input_audio_buffer_commit_empty"})


class Phase(Enum):
    STARTING = auto()  # until the model accepts its configuration
    TALKING = auto()
    LEAVING = auto()  # the goodbye is being heard
    DRAINING = auto()  # the caller is gone, the last transcript is not here yet
    FINISHED = auto()


class CallSession:
    """The state of a call whose media stream is open."""

    def __init__(
        self, plan: CallPlan, now: float, *, may_call: Callable[[str], bool] = is_phone_number
    ) -> None:
        """``may_call`` tells whether ``transfer_call`` may put the caller through to a number."""
        self._plan = plan
        self._may_call = may_call
        self._now = now
        self._actions: list[Action] = []
        self.phase = Phase.STARTING

        self.playback = Playback()
        self._responses = ResponseQueue()
        self._transcript = Transcript()
        self._timeline = Timeline()
        self._tools = ToolRuns()
        self._usage = TokenUsage()

        self._is_connected = False  # the model listens
        self._model_error = ""  # its last, while it gets ready
        self._speaking = False
        self._speech_item = ""
        self._spoke_since = now
        self._waiting_since: float | None = None  # for an answer
        self._is_silent = True  # nobody has spoken yet
        self._started = now
        self._failures = 0
        self._unspoken = 0  # answers in a row that were written instead
        self._total_before = 0  # bytes that had been sent when the response began
        self._watched_total = 0  # and when it was last looked after
        self._digits = ""
        self._early: list[str] = []  # what the caller has said in other ways than by voice
        self._typed_lines = 0
        self._own_items = 0
        self._leave: tuple[str, Dial | None] = ("", None)  # the end that waits for the goodbye
        self._reason = ""
        self._ended_at = now
        self._is_patient = True  # about what the model has yet to tell of the call

        self._timers = Timers()
        self._timers.set("startup", now + STARTUP_S)
        self._timers.set("length", now + plan.max_duration_seconds)

    # What the runner sees

    @property
    def deadline(self) -> float | None:
        """When :class:`TimePassed` is due; None once the session is finished."""
        return self._timers.next()

    @property
    def usage(self) -> TokenUsage:
        return self._usage

    def lines(self) -> tuple[Line, ...]:
        """Return the transcript so far."""
        return self._transcript.lines()

    def tool_runs(self) -> tuple[ToolRun, ...]:
        """Return what the customer's backend was asked so far."""
        return self._tools.kept()

    def receive(self, event: Event, now: float) -> list[Action]:
        """Take note of an event; return what is to be done about it."""
        self._now = now
        self._actions = []
        if self.phase is Phase.DRAINING:
            self._receive_last(event)
        elif self.phase is not Phase.FINISHED:
            _HANDLERS[type(event)](self, event)
        return self._actions

    # The model gets ready

    def _model_ready(self, event: events.ModelReady) -> None:
        if self._is_connected:
            self._note("repeated", what="session.created")
            return
        self._is_connected = True
        self._configure()
        if self._plan.greeting:
            greeting = json.dumps(self._plan.greeting, ensure_ascii=False)
            self._ask_for_response(Request(f"Greet the caller by {_EXACTLY}{greeting}"))

    def _configure(self) -> None:
        self._tell(model_writer.session_update(self._plan))

    def _model_configured(self, event: events.ModelConfigured) -> None:
        if self.phase is Phase.STARTING and self._is_connected:
            self.phase = Phase.TALKING
            self._timers.clear("startup")
            self._timers.clear("configure")
            self._failures = 0
            self._rest()
            self._note("model_ready", model=self._plan.model, ms=self._ms_since(self._started))
            early, self._early = self._early, []
            for text in early:
                self._say_as_caller(text)

    def _configuration_refused(self, event: events.ModelErrored) -> None:
        """Try again if that may help; a greeting would be spoken without the configuration."""
        self._failures += 1
        is_passing = event.code in PASSING_CODES and not self._responses.is_busy
        if is_passing and self._failures <= MOST_FAILURES:
            self._timers.set("configure", self._now + RETRY_S * self._failures)
        else:
            self._fail("model_rejected_configuration", event.message, "model_error")

    def _not_ready_in_time(self) -> None:
        why = f" Its last error: {sentence(self._model_error)}" if self._model_error else ""
        self._fail("model_unreachable", f"The model did not get ready.{why}", "model_error")

    def _model_unreachable(self, event: events.ModelUnreachable) -> None:
        status = f" with status {event.status}" if event.status else ""
        code = "model_invalid_api_key" if event.status == 401 else "model_unreachable"
        why = sentence(event.reason)
        self._fail(code, f"OpenAI could not be reached{status}: {why}", "model_error")

    # The caller speaks, presses keys, hangs up

    def _speech_started(self, event: events.SpeechStarted) -> None:
        self._speaking, self._spoke_since, self._waiting_since = True, self._now, None
        self._speech_item = event.item_id
        self._is_silent = False
        self._timers.clear("idle")
        self._timers.set("speech", self._now + SPEECH_S)
        if event.item_id:
            self._transcript.begin(event.item_id, "user", self._now)
        if self.playback.is_outstanding:
            self._interrupt()

    def _interrupt(self) -> None:
        """Stop what the caller hears, and tell the model how far it was heard."""
        self._do(actions.ClearAudio())
        cleared = self.playback.clear(self._now)
        for unheard in cleared:
            self._transcript.interrupt(unheard.item_id)
            if not unheard.item_id.startswith(model_writer.OWN_ITEM):
                self._tell(model_writer.truncate(unheard.item_id, unheard.heard_ms))
        if self.phase is Phase.LEAVING:  # the caller has more to say: the model decides anew
            self.phase = Phase.TALKING
            self._timers.clear("goodbye")
        self._note("interrupted", heardMs=cleared[0].heard_ms if cleared else 0)

    def _speech_stopped(self, event: events.SpeechStopped | None = None) -> None:
        if self._speaking:
            self._note("caller_spoke", ms=self._ms_since(self._spoke_since))
        self._speaking, self._waiting_since = False, self._now
        self._timers.clear("speech")
        self._responses.speech_stopped(self._now)
        self._send_due_response()
        self._rest()

    def _speech_committed(self, event: events.SpeechCommitted) -> None:
        self._speech_became(event.item_id)

    def _speech_became(self, item_id: str) -> None:
        """An item that the caller's speech has become shows that it is over."""
        if self._speaking and item_id in ("", self._speech_item):
            self._speech_stopped()

    def _speech_end_lost(self) -> None:
        """Nobody speaks for so long; but who does is not to be taken for silent at once."""
        self._note("speech_end_lost")
        self._speech_stopped()
        if not self._is_busy:
            self._timers.set("idle", self._now + max(SPEECH_S, self._inactivity_s))

    def _digit_pressed(self, event: events.DigitPressed) -> None:
        self._digits += event.digit[:1]
        self._note("digit_pressed")
        self._timers.set("digits", self._now + DIGITS_S)
        self._rest()
        if event.digit == "#" or len(self._digits) >= MOST_DIGITS:
            self._digits_complete()

    def _digits_complete(self) -> None:
        self._timers.clear("digits")
        text = f"[The caller pressed on the keypad: {self._digits}]"
        self._digits = ""
        self._say_as_caller(text)

    def _caller_typed(self, event: events.CallerTyped) -> None:
        """Take a line as the caller's words; an ordinary call has nobody who types."""
        text = event.text[:MOST_TYPED].strip()
        if not text or not self._plan.is_test or self._typed_lines >= MOST_TYPED_LINES:
            return
        self._typed_lines += 1
        self._note("text_typed")
        if self.phase is not Phase.STARTING:
            # Interrupt as speech does; the model stops by itself for speech alone.
            if self.playback.is_outstanding:
                self._interrupt()
            if self._responses.active:
                self._tell(model_writer.response_cancel())
        self._say_as_caller(text)
        self._rest()

    def _say_as_caller(self, text: str) -> None:
        """Add a turn of the caller's that was not spoken, and have the model answer it."""
        if self.phase is Phase.STARTING:
            if len(self._early) < MOST_EARLY:
                self._early.append(text)
            return
        self._waiting_since = self._now
        item_id = self._own_item()
        self._transcript.write(item_id, "user", text, self._now)
        self._add_item(model_writer.user_text(item_id, text))
        self._ask_for_response()

    def _caller_hung_up(self, event: events.CallerHungUp) -> None:
        self._end("caller_hangup")

    # The caller hears

    def _mark_played(self, event: events.MarkPlayed) -> None:
        self.playback.played(event.name, self._now)
        if self.phase is Phase.LEAVING:
            self._timers.set("goodbye", self._now + GOODBYE_S)
        self._rest()
        self._leave_when_heard()

    def _marks_overdue(self) -> None:
        """Go on as if the caller had heard everything, if there was time enough for it."""
        if self.playback.is_outstanding and self._now >= self.playback.overdue_at:
            self._note("marks_lost")
            self.playback.give_up()
        self._rest()
        self._leave_when_heard()

    def _agent_audio_started(self, event: events.AgentAudioStarted) -> None:
        if self._waiting_since is not None:
            self._note("agent_spoke", latencyMs=self._ms_since(self._waiting_since))
        elif self._is_silent:
            self._note("greeted", ms=self._ms_since(self._started))
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
        self._responses.item_added(event.item_id)
        if event.type == "message" and event.role == "assistant":
            self._transcript.begin(event.item_id, "assistant", self._now)
        self._transcript.place(event.item_id, event.previous_item_id)
        if event.role == "user":
            self._speech_became(event.item_id)

    def _caller_transcribed(self, event: events.CallerTranscribed) -> None:
        item_id = event.item_id or self._own_item()
        self._transcript.write(item_id, "user", event.text, self._now)
        self._usage += TokenUsage(transcribed_seconds=event.seconds)
        if event.item_id:
            self._speech_became(event.item_id)

    def _agent_transcribed(self, event: events.AgentTranscribed) -> None:
        item_id = event.item_id or self._own_item()
        self._transcript.write(item_id, "assistant", event.text, self._now)

    def _response_started(self, event: events.ResponseStarted) -> None:
        self._responses.started(event.response_id)
        self._total_before = self.playback.total
        self._timers.clear("asked")
        self._watch_response()
        self._send_due_response()
        self._rest()

    def _watch_response(self) -> None:
        self._watched_total = self.playback.total
        self._timers.set("active", self._now + ACTIVE_S)

    def _response_overdue(self) -> None:
        """Go on without the end of a response of which nothing more has come."""
        if self.playback.total > self._watched_total:
            self._watch_response()
            return
        self._note("response_lost")
        self._responses.lost()
        self._mark_end(self.playback.end_all())
        self._send_due_response()
        self._leave_when_heard()

    def _response_done(self, event: events.ResponseDone) -> None:
        if not self._responses.done(event.response_id):
            self._note("repeated", what="response.done")
            return
        self._timers.clear("asked")
        if not self._responses.active:
            self._timers.clear("active")
        self._usage += event.usage
        self._note("response_done", status=event.status)
        if event.unread:
            self._note("not_understood", what=f"{event.unread} items of a response")
        self._mark_end(self.playback.end_all())
        if event.status == "failed":
            self._responses.failed()
            self._try_again(event.error_code or "failed", event.error_message)
        elif event.status != "cancelled":
            self._response_ended(event)
        if not self._is_over:
            self._send_due_response()
            self._leave_when_heard()

    def _response_ended(self, event: events.ResponseDone) -> None:
        spoke = event.spoke or self.playback.total > self._total_before
        if spoke:
            self._unspoken = 0
        if spoke or event.calls or event.status != "incomplete":
            self._failures = 0
        self._run_calls(event, is_said=spoke or bool(event.written))
        if spoke or self._is_over:
            return
        if event.written:
            self._speak(event.written)
        elif event.status == "incomplete" and not event.calls:
            self._speak_after(event.reason)

    def _speak(self, written: str) -> None:
        """The model wrote what the caller should hear: have it said, if it does not say it now."""
        self._unspoken += 1
        self._note("not_spoken", why="text")
        if self.phase is Phase.LEAVING or self._unspoken == 2:
            self._responses.want(_exactly(written))
        elif self._unspoken == 1:
            self._responses.want(Request(aloud=True))

    def _speak_after(self, reason: str) -> None:
        """The model was stopped before it said anything."""
        if reason == "content_filter":
            self._failures += 1
            self._note("not_spoken", why=reason)
            if self._failures <= MOST_FAILURES:
                self._responses.want(Request(_FILTERED))
        else:
            self._responses.failed()
            self._try_again("incomplete", "The model did not complete its answer.")

    def _try_again(self, code: str, message: str) -> None:
        """What came to nothing is wanted again: a moment later, and not for ever."""
        self._failures += 1
        if code in FATAL_CODES or self._failures > MOST_FAILURES:
            self._fail(f"model_{code}", message or "The model failed.", "model_error")
        else:
            self._note("response_failed", code=code)
            self._responses.hold_until(self._now + RETRY_S * self._failures)
            self._send_due_response()

    def _model_errored(self, event: events.ModelErrored) -> None:
        if event.code in HARMLESS_CODES:
            return
        if event.code == _ALREADY_ACTIVE:
            self._responses.refused_as_active()
            self._timers.clear("asked")
            self._watch_response()
            return
        self._note("model_error", code=event.code)
        if event.code in FATAL_CODES:
            self._fail(f"model_{event.code}", event.message, "model_error")
        elif self.phase is Phase.STARTING and self._is_about_configuration(event):
            self._configuration_refused(event)
        elif self._is_about_response(event):
            self._response_refused(event.code, event.message)
        elif self.phase is Phase.STARTING:
            self._model_error = event.message

    def _is_about_configuration(self, event: events.ModelErrored) -> bool:
        if event.event_id or event.param:
            return event.event_id == model_writer.CONFIGURATION or (
                not event.event_id and event.param.startswith("session")
            )
        return self._responses.asked is None

    def _is_about_response(self, event: events.ModelErrored) -> bool:
        """Whether what we asked for is refused; an error that names nothing may pass, or be it."""
        asked = self._responses.asked
        if asked is None:
            return False
        is_named = event.event_id == asked.event_id
        return is_named or (not event.event_id and event.code in PASSING_CODES)

    def _response_refused(self, code: str, message: str) -> None:
        self._timers.clear("asked")
        self._responses.refused()
        self._try_again(code, message)

    def _not_understood(self, event: events.NotUnderstood) -> None:
        self._note("not_understood", what=clipped(event.what, model_reader.LONGEST_NAME))

    def _model_closed(self, event: events.ModelClosed) -> None:
        reason = f": {event.reason}" if event.reason else ""
        message = sentence(f"The connection to OpenAI was closed (code {event.code}){reason}")
        self._fail("model_disconnected", message, "model_disconnected")

    # Tools

    def _run_calls(self, response: events.ResponseDone, *, is_said: bool) -> None:
        """Run what the model called; one response follows when the last call has its answer."""
        batch: set[str] = set()
        answers: list[Callable[[], None]] = []
        if (dropped := len(response.calls) - MOST_RUNNING) > 0:
            self._note("tools_dropped", count=dropped)
        for call in response.calls[:MOST_RUNNING]:
            if not self._tools.is_new(call.call_id):
                self._note("repeated", what="a tool call")
            elif answer := self._run_call(call, batch, is_said=is_said):
                answers.append(answer)
        for answer in answers:
            answer()
        if answers and not batch:
            self._ask_after_answers()

    def _run_call(
        self, call: events.FunctionCall, batch: set[str], *, is_said: bool
    ) -> Callable[[], None] | None:
        """Ask the backend, or return what answers the call without it."""
        try:
            arguments = self._arguments_of(call)
        except ValueError as error:
            refusal = {"error": str(error)}
            return lambda: self._answer_call(call.call_id, refusal)
        self._note("tool_called", tool=call.name)
        if call.name in self._plan.builtin_tools:
            return lambda: self._run_builtin(call, arguments, is_said=is_said)
        self._tools.begin(call.call_id, call.name, batch, self._now)
        self._timers.set(f"tool {call.call_id}", self._now + TOOL_S)
        self._timers.clear("idle")
        self._do(actions.RunTool(call.call_id, call.name, arguments))
        return None

    def _arguments_of(self, call: events.FunctionCall) -> dict[str, Any]:
        """Return what a tool is called with; raise ValueError, for the model, if it cannot run."""
        names = {tool.name for tool in self._plan.tools} | set(self._plan.builtin_tools)
        if call.name not in names:
            name = clipped(call.name, model_reader.LONGEST_NAME)
            raise ValueError(f"There is no tool named {name}." if name else "Name a tool.")
        if self._tools.is_full:
            raise ValueError("Too many tools are running: wait for their results first.")
        return model_reader.arguments_of(call.arguments)

    def _tool_returned(self, event: events.ToolReturned) -> None:
        told = model_writer.as_text(event.result)
        self._tool_ended(event.call_id, "succeeded", told, told, kind="tool_returned")

    def _tool_failed(self, event: events.ToolFailed) -> None:
        self._tool_came_to_nothing(event.call_id, "failed", event.message, "tool_failed")

    def _tool_timed_out(self, call_id: str) -> None:
        self._do(actions.CancelTool(call_id))
        why = "The tool did not answer in time."
        self._tool_came_to_nothing(call_id, "timed_out", why, "tool_timeout")

    def _tool_came_to_nothing(self, call_id: str, status: Status, why: str, kind: str) -> None:
        detail = {"message": why} if status == "failed" else {}
        answer = model_writer.as_text({"error": why})
        self._tool_ended(call_id, status, answer, why, kind=kind, **detail)

    def _tool_ended(
        self, call_id: str, status: Status, answer: str, result: str, *, kind: str, **detail: str
    ) -> None:
        """Write down what a tool came to, and tell the model if it is still there."""
        self._timers.clear(f"tool {call_id}")
        ended = self._tools.end(call_id, status, result, self._now)
        if ended is None:
            return
        run, is_last = ended
        self._note(kind, tool=run.name, ms=run.ms, **detail)
        if not self._is_over:
            self._answer_call(call_id, answer)
            if is_last:
                self._ask_after_answers()
            self._rest()

    def _answer_call(self, call_id: str, output: Any) -> None:
        self._add_item(model_writer.function_output(self._own_item(), call_id, output))

    def _ask_after_answers(self) -> None:
        """Have the model speak of the results; one that says goodbye has nothing more to say."""
        if self.phase is not Phase.LEAVING:
            self._ask_for_response()

    def _run_builtin(
        self, call: events.FunctionCall, arguments: dict[str, Any], *, is_said: bool
    ) -> None:
        match call.name:
            case "end_call":
                self._prepare_to_leave(call.call_id, "agent_hangup", None, is_said=is_said)
            case "transfer_call":
                self._transfer(call.call_id, arguments.get("to"), is_said=is_said)
            case "send_dtmf":
                self._send_dtmf(call.call_id, arguments.get("digits"))

    def _transfer(self, call_id: str, to: Any, *, is_said: bool) -> None:
        numbers = self._plan.transfer_numbers
        if numbers and to not in numbers:
            error = f"This call may only be transferred to {' or '.join(numbers)}."
        elif not (isinstance(to, str) and is_phone_number(to) and self._may_call(to)):
            error = "Give a number that may be called, in E.164: +15551234567."
        else:
            self._prepare_to_leave(call_id, "transferred", Dial(to), is_said=is_said)
            return
        self._answer_call(call_id, {"error": error})

    def _send_dtmf(self, call_id: str, digits: Any) -> None:
        if not is_dialable(digits):
            self._answer_call(call_id, {"error": "Send up to 40 of 0-9, *, #, A-D and w."})
            return
        item_id, payload = self._own_item(), tones(digits)
        size = model_writer.audio_size(payload)
        mark = self.playback.sent(item_id, size, self._now) or self.playback.end(item_id)
        self._do(actions.PlayAudio(payload))
        if mark:
            self._do(actions.SendMark(mark))
        self._answer_call(call_id, {"sent": digits})

    # The end

    def _prepare_to_leave(
        self, call_id: str, reason: str, after: Dial | None, *, is_said: bool
    ) -> None:
        """End the call when the caller has heard what the model says with, or after, this."""
        self.phase = Phase.LEAVING
        self._leave = (reason, after)
        self._timers.set("goodbye", self._now + GOODBYE_S)
        if is_said:
            self._answer_call(call_id, {"ok": True})
        else:
            say = "Tell the caller in one short sentence; then it is done."
            self._answer_call(call_id, {"ok": True, "next": say})
            self._ask_for_response()

    def _leave_when_heard(self) -> None:
        if (
            self.phase is Phase.LEAVING
            and not self.playback.is_outstanding
            and not self._responses.is_busy
        ):
            self._end(*self._leave)

    def _hangup_requested(self, event: events.HangupRequested) -> None:
        self._end("api_hangup")

    def _fail(self, code: str, message: str, reason: str) -> None:
        self._do(actions.ReportError(code, clipped(sentence(message))))
        self._end(reason, Say(APOLOGY))

    def _end(self, reason: str, after: Say | Dial | None = None) -> None:
        """The caller's side is over; the model's goes on until the last transcript is here."""
        if self._is_over:
            return
        self.phase = Phase.DRAINING
        self._reason, self._ended_at = reason, self._now
        for unheard in self.playback.close(self._now):
            self._transcript.interrupt(unheard.item_id)
        self._timers.clear_all(but="tool ")  # what was asked for is done, whoever hears of it
        self._timers.set("transcript", self._now + TRANSCRIPT_S)
        if reason != "caller_hangup":
            self._do(actions.CloseCaller(after))
        if reason in ("model_error", "model_disconnected"):
            self._is_patient = False
        else:
            if self._speaking:
                self._tell(model_writer.commit_audio())
            if self._responses.active:
                self._tell(model_writer.response_cancel())
        self._finish_when_complete()

    def _receive_last(self, event: Event) -> None:
        """The caller is gone: only what the record of the call still lacks matters now."""
        match event:
            case events.ItemAdded():
                self._item_added(event)
            case events.CallerTranscribed():
                self._caller_transcribed(event)
            case events.AgentTranscribed():
                self._agent_transcribed(event)
            case events.ResponseStarted():  # an answer to the last words, which nobody will hear
                self._responses.started(event.response_id)
                self._tell(model_writer.response_cancel())
            case events.ResponseDone():
                if self._responses.done(event.response_id):
                    self._usage += event.usage
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
        is_told = self._transcript.is_complete and not self._responses.active
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
        for name in self._timers.due(self._now):
            if not self._is_over or name.startswith(("tool ", "transcript")):
                self._timer_rang(name)

    def _timer_rang(self, name: str) -> None:
        match name.split(" ", 1):
            case ["startup"]:
                self._not_ready_in_time()
            case ["configure"]:
                self._configure()
            case ["length"]:
                self._end("max_duration")
            case ["idle"] if not self.playback.is_outstanding:
                self._end("inactivity")
            case ["goodbye"]:
                self._end(*self._leave)
            case ["digits"]:
                self._digits_complete()
            case ["heard"]:
                self._marks_overdue()
            case ["speech"]:
                self._speech_end_lost()
            case ["asked"]:
                self._response_refused("no_response", "The model did not begin its answer.")
            case ["active"]:
                self._response_overdue()
            case ["response"]:
                self._send_due_response()
            case ["tool", call_id]:
                self._tool_timed_out(call_id)
            case ["transcript"]:
                self._is_patient = False

    @property
    def _is_busy(self) -> bool:
        return self._speaking or bool(self._tools) or self.playback.is_outstanding

    @property
    def _inactivity_s(self) -> float:
        return self._plan.inactivity_timeout_ms / 1000

    def _rest(self) -> None:
        """Something happened: start the wait for the next thing, unless one is under way."""
        if self.playback.is_outstanding:
            self._timers.set("heard", self.playback.overdue_at)
        else:
            self._timers.clear("heard")
        if self._is_busy:
            self._timers.clear("idle")
        else:
            self._timers.set("idle", self._now + self._inactivity_s)

    # Small change

    @property
    def _is_over(self) -> bool:
        return self.phase is Phase.DRAINING or self.phase is Phase.FINISHED

    def _ask_for_response(self, request: Request = PLAIN) -> None:
        self._responses.want(request)
        self._send_due_response()

    def _send_due_response(self) -> None:
        """Send the response.create that is wanted, if none is under way; one at a time."""
        if not self._is_connected:
            return
        due = self._responses.take(self._now, speaking=self._speaking)
        if due is not None:
            self._tell(model_writer.response_create(due))
            self._timers.set("asked", self._now + ASKED_S)
        if at := self._responses.held_until:
            self._timers.set("response", at)
        else:
            self._timers.clear("response")

    def _add_item(self, event: dict[str, Any]) -> None:
        self._responses.item_sent(event["item"]["id"])
        self._tell(event)

    def _own_item(self) -> str:
        self._own_items += 1
        return f"{model_writer.OWN_ITEM}{self._own_items}"

    def _tell(self, event: dict[str, Any]) -> None:
        if self._is_connected:
            self._do(actions.ToModel(event))

    def _ms_since(self, moment: float) -> int:
        return round((self._now - moment) * 1000)

    def _note(self, kind: str, **detail: Any) -> None:
        if note := self._timeline.note(kind, detail):
            self._do(note)

    def _do(self, action: Action) -> None:
        self._actions.append(action)


def _exactly(text: str) -> Request:
    said = json.dumps(clipped(text, LONGEST_SPOKEN), ensure_ascii=False)
    return Request(f"Speak to the caller, {_EXACTLY}{said}")


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
