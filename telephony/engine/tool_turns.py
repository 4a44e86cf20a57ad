"""The model's tool calls, and the results that it gets."""

from __future__ import annotations

from typing import Any

from telephony.engine import events
from telephony.engine.actions import PlayAudio
from telephony.engine.after_stream import Dial
from telephony.engine.audio import audio_size
from telephony.engine.codes import EndedReason, EventKind
from telephony.engine.commands import AddToolResult
from telephony.engine.dtmf import is_dialable, tones
from telephony.engine.leaving import Leaving
from telephony.engine.phase import Phase
from telephony.engine.plan import is_phone_number
from telephony.engine.state import CallState
from telephony.engine.toolbox import BuiltIn, as_text

# What the model is told to do before the call ends.
SAY = "Tell the caller in one short sentence; then it is done."
SAY_UNLESS_SAID = (
    "Unless the caller has already heard it, tell them in one short sentence; then it is done."
)
MOST_FRUITLESS = 10  # silent responses in a row whose tool calls needed no backend


class ToolTurns:
    def __init__(self, state: CallState, leaving: Leaving) -> None:
        self._state = state
        self._leaving = leaving
        self._fruitless = 0  # silent responses in a row whose tool calls needed no backend
        self._heard_before = 0  # bytes of audio that had been sent at the last of them

    def run_calls(self, response: events.ResponseDone) -> bool:
        """Run the tool calls of a response; request one response after the last result.

        Return True if there was a call to run or to answer.
        """
        taken = self._state.tools.take(response.calls)
        say = self._left_to_say(response)
        for call_id, error in taken.refused:
            self._answer(call_id, {"error": error})
        for call in taken.builtin:
            self._run_builtin(call, say)
        if taken.batch:
            self._fruitless = 0
        elif taken.refused or taken.builtin:
            self._ask_unless_in_circles()
        return bool(taken.batch or taken.builtin or taken.refused)

    def _left_to_say(self, response: events.ResponseDone) -> str:
        """Return what the model is told if its call ends the call; "" if it said or wrote enough.

        What a voice says while its backend works may be a goodbye, or only that it takes a moment.
        """
        if self._state.answers.spoke(response) or response.written:
            return ""
        return SAY_UNLESS_SAID if response.is_backstage else SAY

    def _ask_unless_in_circles(self) -> None:
        """Continue after calls that needed no backend; a model may make them in a loop."""
        is_heard = self._state.playback.total > self._heard_before
        self._fruitless = 0 if is_heard else self._fruitless + 1
        self._heard_before = self._state.playback.total
        if self._fruitless > MOST_FRUITLESS:
            self._state.note(EventKind.NOT_SPOKEN, why="tools")
        else:
            self._ask_after_answers()

    # The customer's tools

    def returned(self, event: events.ToolReturned) -> None:
        told = as_text(event.result)
        self._ended(self._state.tools.returned(event.call_id, told), event.call_id, told)

    def failed(self, event: events.ToolFailed) -> None:
        is_last = self._state.tools.failed(event.call_id, event.message)
        self._ended(is_last, event.call_id, {"error": event.message})

    def timed_out(self, call_id: str) -> None:
        why = "The tool did not respond in time."
        self._ended(self._state.tools.timed_out(call_id, why), call_id, {"error": why})

    def _ended(self, is_last: bool | None, call_id: str, answer: Any) -> None:
        """Send the model the result of a tool, if it was pending and the call continues."""
        if is_last is None or self._state.is_over:
            return
        self._answer(call_id, answer)
        if is_last:
            self._ask_after_answers()
        self._state.rest()

    def _answer(self, call_id: str, output: Any) -> None:
        item_id, result = self._state.context.own_item(), as_text(output)
        self._state.tools.told.told(call_id, result)
        self._state.answers.add_item(AddToolResult(item_id, call_id, result))

    def _ask_after_answers(self) -> None:
        """Request a response to the results, unless the model is saying goodbye."""
        if self._state.phase is not Phase.LEAVING:
            self._state.answers.ask()

    # The built-in tools

    def _run_builtin(self, call: BuiltIn, say: str) -> None:
        match call.name:
            case "end_call":
                self._leave(call.call_id, EndedReason.AGENT_HANGUP, None, say)
            case "transfer_call":
                self._transfer(call.call_id, call.arguments.get("to"), say)
            case "send_dtmf":
                self._send_dtmf(call.call_id, call.arguments.get("digits"))

    def _leave(self, call_id: str, reason: EndedReason, after: Dial | None, say: str) -> None:
        """End the call when the caller has heard what the model says with or after this call."""
        is_leaving = self._state.phase is Phase.LEAVING
        self._leaving.prepare(reason, after)
        if is_leaving or not say:
            self._answer(call_id, {"ok": True})
        else:
            self._answer(call_id, {"ok": True, "next": say})
            self._state.answers.ask()

    def _transfer(self, call_id: str, to: Any, say: str) -> None:
        numbers = self._state.plan.transfer_numbers
        if numbers and to not in numbers:
            error = f"This call may only be transferred to {' or '.join(numbers)}."
        elif not (isinstance(to, str) and is_phone_number(to) and self._state.may_call(to)):
            error = "Give a number that may be called, in E.164: +15551234567."
        else:
            self._leave(call_id, EndedReason.TRANSFERRED, Dial(to), say)
            return
        self._answer(call_id, {"error": error})

    def _send_dtmf(self, call_id: str, digits: Any) -> None:
        if not is_dialable(digits):
            self._answer(call_id, {"error": "Send up to 40 of 0-9, *, #, A-D and w."})
            return
        state = self._state
        item_id, payload = state.context.own_item(), tones(digits)
        # The last mark follows with the end of the response.
        mark = state.playback.sent(item_id, audio_size(payload), state.now)
        state.do(PlayAudio(payload))
        state.send_mark(mark)
        self._answer(call_id, {"sent": digits})
