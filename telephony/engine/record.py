"""The record of the conversation: items, transcripts, usage."""

from __future__ import annotations

from telephony.engine import events
from telephony.engine.codes import EventKind
from telephony.engine.commands import OWN_ITEM
from telephony.engine.costs import TokenUsage
from telephony.engine.hearing import Hearing
from telephony.engine.recent_ids import RecentIds
from telephony.engine.state import CallState


class Record:
    def __init__(self, state: CallState, hearing: Hearing) -> None:
        self._state = state
        self._hearing = hearing
        self._transcribed = RecentIds()

    def item_added(self, event: events.ItemAdded) -> None:
        state = self._state
        state.answers.item_added(event.item_id)
        is_new = not event.item_id.startswith(OWN_ITEM)  # else it is of the history
        if event.role == "assistant" and is_new:
            state.transcript.begin(event.item_id, "assistant", state.now)
        state.transcript.place(event.item_id, event.previous_item_id)
        if event.role == "user":
            self._hearing.speech_became(event.item_id)

    def caller_transcribed(self, event: events.CallerTranscribed) -> None:
        state = self._state
        item_id = event.item_id or state.context.own_item()
        says_something = event.text or event.seconds
        if says_something and not self._transcribed.add(item_id):
            state.note(EventKind.REPEATED, what="a transcript")
            return
        state.transcript.write(item_id, "user", event.text, state.now)
        state.usage += TokenUsage(transcribed_seconds=event.seconds)
        if event.item_id:
            self._hearing.speech_became(event.item_id)

    def agent_transcribed(self, event: events.AgentTranscribed) -> None:
        item_id = event.item_id or self._state.context.own_item()
        self._state.transcript.write(item_id, "assistant", event.text, self._state.now)

    def transcribing(self, event: events.Transcribing) -> None:
        transcript = self._state.transcript
        transcript.write_so_far(event.item_id, event.role, event.text, self._state.now)

    def session_used(self, event: events.SessionUsed) -> None:
        self._state.usage += TokenUsage(session_seconds=event.seconds)

    def response_done(self, event: events.ResponseDone) -> bool:
        """Record the usage and words of a response; return False if its end is a repetition."""
        state = self._state
        if not state.answers.done(event):
            return False
        state.usage += event.usage
        if event.status != "failed":
            state.has_responded = True
            state.responses += 1
        for said in event.said:
            state.transcript.complete(said.item_id, "assistant", said.text, state.now)
        return True
