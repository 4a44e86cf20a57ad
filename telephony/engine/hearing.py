"""The caller speaks, presses keys or types."""

from __future__ import annotations

from telephony.engine import events
from telephony.engine.codes import EventKind
from telephony.engine.commands import OWN_ITEM, AddText, CancelResponse, Truncate
from telephony.engine.history import heard_of
from telephony.engine.leaving import Leaving
from telephony.engine.phase import Phase
from telephony.engine.state import CallState
from telephony.engine.timers import Timer

SPEECH_S = 60.0  # of the caller's speech, after which we assume that its end was not reported
MOST_TYPED = 2_000  # characters of a typed message
MOST_TYPED_LINES = 500
MOST_EARLY = 50  # turns of keys or text that wait until the model is configured

# Corrects the history: a session of the model can truncate only what it has said itself.
CUT = 'The caller interrupted your last turn. This is all that they heard of it: "{}"'
UNHEARD = "The caller interrupted your last turn before they heard any of it."


class Hearing:
    def __init__(self, state: CallState, leaving: Leaving) -> None:
        self._state = state
        self._leaving = leaving
        self._speech_item = ""
        self._spoke_since = state.now
        self._typed_lines = 0

    # Speech

    def speech_started(self, event: events.SpeechStarted) -> None:
        state = self._state
        self._spoke_since = state.now - event.ago_s
        self._speech_item = event.item_id
        state.reply_times.caller_speaks()
        state.answers.caller_speaks()
        state.timers.clear(Timer.IDLE)
        state.context.start_timer(Timer.SPEECH, SPEECH_S)
        if event.item_id:
            state.transcript.begin(event.item_id, "user", self._spoke_since)
        self._interrupt()
        self._leaving.stay()

    def _interrupt(self) -> None:
        """Stop the audio, if there is any, and tell the model how much of it the caller heard."""
        state = self._state
        cleared = state.cut_audio()
        for unheard in cleared:
            item_id = unheard.item_id
            if state.transcript.is_settled(item_id):
                self._tell_of_cut(item_id)
            elif not item_id.startswith(OWN_ITEM):
                state.tell(Truncate(item_id, unheard.heard_ms))
        if cleared:
            state.note(EventKind.INTERRUPTED, heardMs=cleared[0].heard_ms)

    def _tell_of_cut(self, item_id: str) -> None:
        """Tell the model of an interrupted turn that its history has in full."""
        state = self._state
        if line := state.transcript.turn(item_id):
            heard = heard_of(line)
            told = CUT.format(heard) if heard else UNHEARD
            state.tell(AddText(state.context.own_item(), told, role="system"))

    def speech_stopped(self, event: events.SpeechStopped | None = None) -> None:
        state = self._state
        ago_s = event.ago_s if event else 0.0
        if state.is_speaking:
            spoke_ms = state.context.ms_since(self._spoke_since + ago_s)
            state.note(EventKind.CALLER_SPOKE, ms=max(0, spoke_ms))
        state.reply_times.caller_waits(ago_s)
        state.timers.clear(Timer.SPEECH)
        state.answers.caller_has_spoken()
        state.rest()

    def speech_committed(self, event: events.SpeechCommitted) -> None:
        self.speech_became(event.item_id)

    def speech_became(self, item_id: str) -> None:
        """End the caller's speech: it has become an item, even if its end was not reported."""
        state = self._state
        if state.is_speaking and not state.is_over and item_id in ("", self._speech_item):
            self.speech_stopped()

    def speech_end_lost(self) -> None:
        """Assume that the caller has stopped: no one speaks that long without a pause.

        In case they do, wait at least as long again before silence ends the call.
        """
        state = self._state
        state.note(EventKind.SPEECH_END_LOST)
        self.speech_stopped()
        state.timers.clear(Timer.ANSWER)
        if not state.is_busy:
            state.context.start_timer(Timer.IDLE, max(SPEECH_S, state.inactivity_s))

    # Keys and text

    def digit_pressed(self, event: events.DigitPressed) -> None:
        is_complete = self._state.keypad.press(event.digit)
        self._state.rest()
        if is_complete:
            self.digits_complete()

    def digits_complete(self) -> None:
        self._say_as_caller(self._state.keypad.take())

    def caller_typed(self, event: events.CallerTyped) -> None:
        """Process a typed message as a turn of the caller; only test calls have them."""
        state = self._state
        text = event.text[:MOST_TYPED].strip()
        if not text or not state.plan.is_test or self._typed_lines >= MOST_TYPED_LINES:
            return
        self._typed_lines += 1
        state.note(EventKind.TEXT_TYPED)
        if state.phase is not Phase.STARTING:
            # Interrupt as speech does: the model stops by itself only for speech.
            self._interrupt()
            self._leaving.stay()
            if state.answers.is_active:
                state.tell(CancelResponse())
        self._say_as_caller(text)
        state.rest()

    def _say_as_caller(self, text: str) -> None:
        """Add a turn of the caller that was not spoken, and request a response to it."""
        state = self._state
        item = AddText(state.write_down(text), text)
        if state.phase is not Phase.STARTING:
            state.ask_about(item)
        elif len(state.early) < MOST_EARLY:
            state.early.append(item)

    def ask_about_early(self) -> None:
        """Request responses to the turns that waited until the model was configured."""
        state = self._state
        early, state.early = state.early, []
        for item in early:
            state.ask_about(item)
