"""One call's conversation: everything that decides what happens next, and nothing that does it.

``receive(event, now)`` returns the actions to take, in their order; ``deadline`` is when
``TimePassed`` is due. ``now`` is in seconds on any clock that does not go backwards. Audio passes
by the session: ``playback`` counts it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from telephony.engine import actions, events, model_codec
from telephony.engine.actions import Action, Dial, Say
from telephony.engine.bounds import clipped
from telephony.engine.costs import TokenUsage
from telephony.engine.dtmf import is_dialable, tones
from telephony.engine.events import Event
from telephony.engine.plan import CallPlan, is_phone_number
from telephony.engine.playback import Playback
from telephony.engine.responses import ResponseQueue
from telephony.engine.timers import Timers
from telephony.engine.transcript import Line, Transcript

STARTUP_S = 10.0  # for the model to accept its configuration
TOOL_S = 30.0  # for the customer's backend to answer a tool call
GOODBYE_S = 15.0  # for the caller to hear the goodbye, at most
TRANSCRIPT_S = 2.0  # for the last transcript, when the call is over
DIGITS_S = 1.5  # of silence end a row of digits; so does "#"
MOST_DIGITS = 100  # in a row
MOST_TYPED = 2_000  # characters of a line that is typed
MOST_TYPED_LINES = 500
MOST_CALLS = 64  # of tools, in one response and under way
MOST_NOTES = 10_000  # lines of the timeline
RETRY_S = 1.0  # before a failed response is asked for again, times the failures
MOST_FAILURES = 2  # of responses in a row that are tried again

APOLOGY = "We are sorry, but something went wrong. Please call again later. Goodbye."

# After these OpenAI serves nothing more on this socket, whatever we send.
FATAL_CODES = frozenset(
    {
        "insufficient_quota",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "session_expired",
    }
)
# One of our messages crossed one of the model's: nothing is lost.
_ALREADY_ACTIVE = "conversation_already_has_active_response"
HARMLESS_CODES = frozenset(
    {_ALREADY_ACTIVE, "response_cancel_not_active", "input_audio_buffer_commit_empty"}
)


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
        self._usage = TokenUsage()

        self._speaking = False
        self._spoke_since = now
        self._waiting_since: float | None = None  # for an answer
        self._is_silent = True  # nobody has spoken yet
        self._started = now
        self._failures = 0
        self._digits = ""
        self._typed: list[str] = []  # lines that wait for the model to be configured
        self._typed_lines = 0
        self._own_items = 0
        self._notes = 0
        self._tools: dict[str, set[str]] = {}  # call id → ids of its batch without an answer yet
        self._tool_calls: dict[str, tuple[str, float]] = {}  # call id → the tool, since when
        self._leave: tuple[str, Dial | None] = ("", None)  # the end that waits for the goodbye
        self._reason = ""
        self._ended_at = now

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
        self._tell(model_codec.session_update(self._plan))
        if self._plan.greeting:
            self._ask_for_response(
                "Greet the caller by saying exactly this, and nothing else: "
                + json.dumps(self._plan.greeting, ensure_ascii=False)
            )

    def _model_configured(self, event: events.ModelConfigured) -> None:
        if self.phase is Phase.STARTING:
            self.phase = Phase.TALKING
            self._timers.clear("startup")
            self._rest()
            self._note("model_ready", model=self._plan.model, ms=self._ms_since(self._started))
            typed, self._typed = self._typed, []
            for text in typed:
                self._say_typed(text)

    def _model_unreachable(self, event: events.ModelUnreachable) -> None:
        status = f" with status {event.status}" if event.status else ""
        code = "model_invalid_api_key" if event.status == 401 else "model_unreachable"
        self._fail(code, f"OpenAI could not be reached{status}: {event.reason}.", "model_error")

    # The caller speaks, presses keys, hangs up

    def _speech_started(self, event: events.SpeechStarted) -> None:
        self._speaking, self._spoke_since, self._waiting_since = True, self._now, None
        self._is_silent = False
        self._timers.clear("idle")
        self._transcript.begin(event.item_id, "user", self._now)
        if self.playback.is_outstanding:
            self._interrupt()

    def _interrupt(self) -> None:
        """Stop what the caller hears, and tell the model how far it was heard."""
        self._do(actions.ClearAudio())
        cleared = self.playback.clear(self._now)
        for unheard in cleared:
            self._transcript.interrupt(unheard.item_id)
            if not unheard.item_id.startswith(model_codec.OWN_ITEM):
                self._tell(model_codec.truncate(unheard.item_id, unheard.heard_ms))
        if self.phase is Phase.LEAVING:  # the caller has more to say: the model decides anew
            self.phase = Phase.TALKING
            self._timers.clear("goodbye")
        self._note("interrupted", heardMs=cleared[0].heard_ms if cleared else 0)

    def _speech_stopped(self, event: events.SpeechStopped) -> None:
        self._speaking, self._waiting_since = False, self._now
        self._note("caller_spoke", ms=self._ms_since(self._spoke_since))
        self._responses.speech_stopped(self._now)
        self._send_due_response()
        self._rest()

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
        if self.phase is Phase.STARTING:
            self._typed.append(text)
        else:
            self._say_typed(text)

    def _say_typed(self, text: str) -> None:
        """Interrupt as speech does; the model stops by itself for speech alone."""
        if self.playback.is_outstanding:
            self._interrupt()
        if self._responses.active:
            self._tell(model_codec.response_cancel())
        self._note("text_typed")
        self._say_as_caller(text)
        self._rest()

    def _say_as_caller(self, text: str) -> None:
        """Add a turn of the caller's that was not spoken, and have the model answer it."""
        self._waiting_since = self._now
        item_id = self._own_item()
        self._transcript.write(item_id, "user", text, self._now)
        self._add_item(model_codec.user_text(item_id, text))
        self._ask_for_response()

    def _caller_hung_up(self, event: events.CallerHungUp) -> None:
        self._end("caller_hangup")

    # The caller hears

    def _mark_played(self, event: events.MarkPlayed) -> None:
        self.playback.played(event.name, self._now)
        if self.phase is Phase.LEAVING:
            self._timers.set("goodbye", self._now + GOODBYE_S)
        if not self.playback.is_outstanding:
            self._rest()
            self._leave_when_heard()

    def _agent_audio_started(self, event: events.AgentAudioStarted) -> None:
        if self._waiting_since is not None:
            self._note("agent_spoke", latencyMs=self._ms_since(self._waiting_since))
        elif self._is_silent:
            self._note("greeted", ms=self._ms_since(self._started))
        self._waiting_since, self._is_silent = None, False

    def _agent_audio_ended(self, event: events.AgentAudioEnded) -> None:
        if mark := self.playback.end(event.item_id):
            self._do(actions.SendMark(mark))

    # The conversation

    def _item_added(self, event: events.ItemAdded) -> None:
        self._responses.item_added(event.item_id)
        if event.type == "message" and event.role == "assistant":
            self._transcript.begin(event.item_id, "assistant", self._now)
        self._transcript.place(event.item_id, event.previous_item_id)

    def _caller_transcribed(self, event: events.CallerTranscribed) -> None:
        self._transcript.write(event.item_id, "user", event.text, self._now)
        self._usage += TokenUsage(transcribed_seconds=event.seconds)

    def _agent_transcribed(self, event: events.AgentTranscribed) -> None:
        self._transcript.write(event.item_id, "assistant", event.text, self._now)

    def _response_started(self, event: events.ResponseStarted) -> None:
        self._responses.started(event.response_id)
        self._send_due_response()
        self._rest()

    def _response_done(self, event: events.ResponseDone) -> None:
        self._responses.done()
        self._usage += event.usage
        self._note("response_done", status=event.status)
        self._rest()
        if event.status == "failed":
            self._response_failed(event)
        elif event.status == "completed":
            self._failures = 0
            self._run_calls(event)
        if not self._is_over:
            self._send_due_response()
            self._leave_when_heard()

    def _response_failed(self, event: events.ResponseDone) -> None:
        self._failures += 1
        if event.error_code in FATAL_CODES or self._failures > MOST_FAILURES:
            code = f"model_{event.error_code or 'failed'}"
            self._fail(code, event.error_message or "The model failed.", "model_error")
        else:
            self._note("response_failed", code=event.error_code)
            self._timers.set("retry", self._now + RETRY_S * self._failures)

    def _model_errored(self, event: events.ModelErrored) -> None:
        if event.code == _ALREADY_ACTIVE:
            self._responses.refused()
            self._timers.set("response", self._now + RETRY_S)
            return
        if event.code in HARMLESS_CODES:
            return
        self._note("model_error", code=event.code)
        if event.code in FATAL_CODES:
            self._fail(f"model_{event.code}", event.message, "model_error")
        elif self.phase is Phase.STARTING:
            self._fail("model_rejected_configuration", event.message, "model_error")

    def _model_closed(self, event: events.ModelClosed) -> None:
        reason = f": {event.reason}" if event.reason else ""
        message = f"OpenAI closed the connection (code {event.code}){reason}."
        self._fail("model_disconnected", message, "model_disconnected")

    # Tools

    def _run_calls(self, response: events.ResponseDone) -> None:
        batch: set[str] = set()
        for call in response.calls[:MOST_CALLS]:
            self._run_call(call, batch, spoke=response.spoke)

    def _run_call(self, call: events.FunctionCall, batch: set[str], *, spoke: bool) -> None:
        try:
            arguments = self._arguments_of(call)
        except ValueError as error:
            self._answer_call(call.call_id, {"error": str(error)})
            return
        self._note("tool_called", tool=call.name)
        if call.name in self._plan.builtin_tools:
            self._run_builtin(call, arguments, spoke=spoke)
        else:
            batch.add(call.call_id)
            self._tools[call.call_id] = batch
            self._tool_calls[call.call_id] = (call.name, self._now)
            self._timers.set(f"tool {call.call_id}", self._now + TOOL_S)
            self._timers.clear("idle")
            self._do(actions.RunTool(call.call_id, call.name, arguments))

    def _arguments_of(self, call: events.FunctionCall) -> dict[str, Any]:
        """Return what a tool is called with; raise ValueError, for the model, if it cannot run."""
        names = {tool.name for tool in self._plan.tools} | set(self._plan.builtin_tools)
        if call.name not in names:
            name = clipped(call.name, model_codec.LONGEST_NAME)
            raise ValueError(f"There is no tool named {name}.")
        if len(self._tools) >= MOST_CALLS:
            raise ValueError("Too many tools are running: wait for their results first.")
        return model_codec.arguments_of(call.arguments)

    def _tool_returned(self, event: events.ToolReturned) -> None:
        if self._tool_over(event.call_id):
            self._note("tool_returned", **self._tool_facts(event.call_id))
            self._answer_in_batch(event.call_id, event.result)

    def _tool_failed(self, event: events.ToolFailed) -> None:
        if self._tool_over(event.call_id):
            self._note("tool_failed", **self._tool_facts(event.call_id), message=event.message)
            self._answer_in_batch(event.call_id, {"error": event.message})

    def _tool_timed_out(self, call_id: str) -> None:
        if self._tool_over(call_id):
            self._note("tool_timeout", **self._tool_facts(call_id))
            self._do(actions.CancelTool(call_id))
            self._answer_in_batch(call_id, {"error": "The tool did not answer in time."})

    def _tool_over(self, call_id: str) -> bool:
        """Whether the tool was still waited for; from now on it is not."""
        self._timers.clear(f"tool {call_id}")
        return call_id in self._tools

    def _tool_facts(self, call_id: str) -> dict[str, Any]:
        """Return which tool it was, and how long it was waited for."""
        name, since = self._tool_calls.pop(call_id)
        return {"tool": name, "ms": self._ms_since(since)}

    def _answer_in_batch(self, call_id: str, output: Any) -> None:
        """Answer; ask for one response when the last call of its response has its answer."""
        batch = self._tools.pop(call_id)
        batch.discard(call_id)
        self._answer_call(call_id, output, respond=not batch)
        self._rest()

    def _answer_call(self, call_id: str, output: Any, *, respond: bool = True) -> None:
        self._add_item(model_codec.function_output(self._own_item(), call_id, output))
        if respond:
            self._ask_for_response()

    def _run_builtin(
        self, call: events.FunctionCall, arguments: dict[str, Any], *, spoke: bool
    ) -> None:
        match call.name:
            case "end_call":
                self._prepare_to_leave(call.call_id, "agent_hangup", None, spoke=spoke)
            case "transfer_call":
                self._transfer(call.call_id, arguments.get("to"), spoke=spoke)
            case "send_dtmf":
                self._send_dtmf(call.call_id, arguments.get("digits"))

    def _transfer(self, call_id: str, to: Any, *, spoke: bool) -> None:
        numbers = self._plan.transfer_numbers
        if numbers and to not in numbers:
            error = f"This call may only be transferred to {' or '.join(numbers)}."
        elif not (isinstance(to, str) and is_phone_number(to) and self._may_call(to)):
            error = "Give a number that may be called, in E.164: +15551234567."
        else:
            self._prepare_to_leave(call_id, "transferred", Dial(to), spoke=spoke)
            return
        self._answer_call(call_id, {"error": error})

    def _send_dtmf(self, call_id: str, digits: Any) -> None:
        if not is_dialable(digits):
            self._answer_call(call_id, {"error": "Send up to 40 of 0-9, *, #, A-D and w."})
            return
        item_id, payload = self._own_item(), tones(digits)
        size = model_codec.audio_size(payload)
        mark = self.playback.sent(item_id, size, self._now) or self.playback.end(item_id)
        self._do(actions.PlayAudio(payload))
        if mark:
            self._do(actions.SendMark(mark))
        self._answer_call(call_id, {"sent": digits})

    # The end

    def _prepare_to_leave(
        self, call_id: str, reason: str, after: Dial | None, *, spoke: bool
    ) -> None:
        """End the call when the caller has heard what the model says with, or after, this."""
        self.phase = Phase.LEAVING
        self._leave = (reason, after)
        self._timers.set("goodbye", self._now + GOODBYE_S)
        if spoke:
            self._answer_call(call_id, {"ok": True}, respond=False)
        else:
            say = "Tell the caller in one short sentence; then it is done."
            self._answer_call(call_id, {"ok": True, "next": say})

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
        self._do(actions.ReportError(code, clipped(message)))
        self._end(reason, Say(APOLOGY))

    def _end(self, reason: str, after: Say | Dial | None = None) -> None:
        """The caller's side is over; the model's goes on until the last transcript is here."""
        if self._is_over:
            return
        self.phase = Phase.DRAINING
        self._reason, self._ended_at = reason, self._now
        for unheard in self.playback.close(self._now):
            self._transcript.interrupt(unheard.item_id)
        for call_id in self._tools:
            self._do(actions.CancelTool(call_id))
        self._timers.clear_all()
        self._timers.set("transcript", self._now + TRANSCRIPT_S)
        if reason != "caller_hangup":
            self._do(actions.CloseCaller(after))
        if reason in ("model_error", "model_disconnected"):
            self._finish()
            return
        if self._speaking:
            self._tell(model_codec.commit_audio())
        if self._responses.active:
            self._tell(model_codec.response_cancel())
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
                self._tell(model_codec.response_cancel())
            case events.ResponseDone():
                self._responses.done()
                self._usage += event.usage
            case events.ModelClosed() | events.ModelUnreachable():
                self._finish()
                return
            case events.TimePassed() if self._timers.due(self._now):
                self._finish()
                return
        self._finish_when_complete()

    def _finish_when_complete(self) -> None:
        if self._transcript.is_complete and not self._responses.active:
            self._finish()

    def _finish(self) -> None:
        self.phase = Phase.FINISHED
        self._timers.clear_all()
        self._do(
            actions.Finish(self._reason, self._ended_at, self._transcript.lines(), self._usage)
        )

    # Time

    def _time_passed(self, event: events.TimePassed) -> None:
        for name in self._timers.due(self._now):
            if not self._is_over:
                self._timer_rang(name)

    def _timer_rang(self, name: str) -> None:
        match name.split(" "):
            case ["startup"]:
                self._fail("model_unreachable", "The model did not get ready.", "model_error")
            case ["length"]:
                self._end("max_duration")
            case ["idle"] if not self.playback.is_outstanding:
                self._end("inactivity")
            case ["goodbye"]:
                self._end(*self._leave)
            case ["digits"]:
                self._digits_complete()
            case ["retry"]:
                self._ask_for_response()
            case ["response"]:
                self._send_due_response()
            case ["tool", call_id]:
                self._tool_timed_out(call_id)

    def _rest(self) -> None:
        """Something happened: start the wait for the next thing, unless one is under way."""
        if self._speaking or self._tools or self.playback.is_outstanding:
            self._timers.clear("idle")
        else:
            self._timers.set("idle", self._now + self._plan.inactivity_timeout_ms / 1000)

    # Small change

    @property
    def _is_over(self) -> bool:
        return self.phase is Phase.DRAINING or self.phase is Phase.FINISHED

    def _ask_for_response(self, instructions: str = "") -> None:
        self._responses.want(instructions)
        self._send_due_response()

    def _send_due_response(self) -> None:
        """Send the response.create that is wanted, if none is under way; one at a time."""
        due = self._responses.take(self._now, speaking=self._speaking)
        if due is not None:
            self._tell(model_codec.response_create(due))
        if at := self._responses.held_until:
            self._timers.set("response", at)
        else:
            self._timers.clear("response")

    def _add_item(self, event: dict[str, Any]) -> None:
        self._responses.item_sent(event["item"]["id"])
        self._tell(event)

    def _own_item(self) -> str:
        self._own_items += 1
        return f"{model_codec.OWN_ITEM}{self._own_items}"

    def _tell(self, event: dict[str, Any]) -> None:
        self._do(actions.ToModel(event))

    def _ms_since(self, moment: float) -> int:
        return round((self._now - moment) * 1000)

    def _note(self, kind: str, **detail: Any) -> None:
        self._notes += 1
        if self._notes <= MOST_NOTES:
            kept = {
                name: clipped(value) if isinstance(value, str) else value
                for name, value in detail.items()
            }
            self._do(actions.Note(kind, kept))

    def _do(self, action: Action) -> None:
        self._actions.append(action)


_HANDLERS: dict[type[Event], Any] = {
    events.DigitPressed: CallSession._digit_pressed,
    events.CallerTyped: CallSession._caller_typed,
    events.MarkPlayed: CallSession._mark_played,
    events.CallerHungUp: CallSession._caller_hung_up,
    events.ModelReady: CallSession._model_ready,
    events.ModelConfigured: CallSession._model_configured,
    events.ModelErrored: CallSession._model_errored,
    events.ModelClosed: CallSession._model_closed,
    events.ModelUnreachable: CallSession._model_unreachable,
    events.SpeechStarted: CallSession._speech_started,
    events.SpeechStopped: CallSession._speech_stopped,
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
