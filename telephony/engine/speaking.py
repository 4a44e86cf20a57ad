"""The agent speaks: its responses, and how much of them the caller has heard."""

from __future__ import annotations

from telephony.engine import events
from telephony.engine.codes import EventKind
from telephony.engine.commands import CancelResponse
from telephony.engine.greeting import Greeting
from telephony.engine.leaving import GOODBYE_S, Leaving
from telephony.engine.phase import Phase
from telephony.engine.record import Record
from telephony.engine.state import CallState
from telephony.engine.timers import Timer
from telephony.engine.tool_turns import ToolTurns

# A call that is about to move has moved by then.
MOVES_WITHIN_S = 3.0


class Speaking:
    def __init__(
        self,
        state: CallState,
        leaving: Leaving,
        record: Record,
        tools: ToolTurns,
        greeting: Greeting,
    ) -> None:
        self._state = state
        self._leaving = leaving
        self._record = record
        self._tools = tools
        self._greeting = greeting

    # Audio

    def audio_started(self, event: events.AgentAudioStarted) -> None:
        self._state.reply_times.audio_came(event.item_id)
        self._state.rest()

    def audio_ended(self, event: events.AgentAudioEnded) -> None:
        self._state.send_mark(self._state.playback.end(event.item_id))
        self._state.rest()

    def mark_played(self, event: events.MarkPlayed) -> None:
        state = self._state
        if played := state.playback.played(event.name, state.now):
            state.reply_times.audio_heard(*played)
        if state.phase is Phase.LEAVING:
            state.context.start_timer(Timer.GOODBYE, GOODBYE_S)
        state.rest()
        self._leaving.leave_when_heard()

    def marks_overdue(self) -> None:
        """Assume that the caller has heard everything, if enough time has passed for it."""
        state = self._state
        if state.playback.is_outstanding and state.now >= state.playback.overdue_at:
            state.note(EventKind.MARKS_LOST)
            state.playback.give_up()
        state.rest()
        self._leaving.leave_when_heard()

    # Responses

    def response_started(self, event: events.ResponseStarted) -> None:
        self._state.answers.started(event)
        self._state.rest()

    def cut_short(self) -> None:
        """End the response in progress, so that the model reports its words and what it cost.

        Another one follows: in the next session or, if the call stays after all, in this one.
        """
        if self._state.answers.is_active:
            self._state.tell(CancelResponse())
            self._state.answers.ask_later(MOVES_WITHIN_S)

    def response_overdue(self) -> None:
        if self._state.answers.is_lost():
            self._response_over()

    def response_done(self, event: events.ResponseDone) -> None:
        state = self._state
        if not self._record.response_done(event):
            return
        self._greeting.response_done(event)
        state.note(EventKind.RESPONSE_DONE, status=event.status)
        if event.unread:
            state.note(EventKind.NOT_UNDERSTOOD, what=f"{event.unread} items of a response")
        if event.status in ("failed", "cancelled"):
            state.tools.drop(event.calls)
        if event.status == "failed":
            state.answers.failed(event)
        elif event.status != "cancelled":
            took = self._tools.run_calls(event) or bool(event.calls and state.tools)
            state.answers.look_at(event, took=took, is_last=state.phase is Phase.LEAVING)
            if event.is_backstage and event.written:
                state.answers.await_voice()
        self._response_over()

    def _response_over(self) -> None:
        state = self._state
        state.send_mark(state.playback.end_all())
        state.rest()
        state.answers.send_due()
        self._leaving.leave_when_heard()
