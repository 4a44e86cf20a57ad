"""Replaces the session of the model during a call: it broke, it failed, or it is too old."""

from __future__ import annotations

from telephony.engine.actions import ConnectModel
from telephony.engine.breaks import Breaks
from telephony.engine.codes import EventKind, OnErrorCode, model_error_code
from telephony.engine.context import ModelFailed
from telephony.engine.model_errors import REPLACED_CODES
from telephony.engine.phase import Phase
from telephony.engine.startup import Startup
from telephony.engine.state import CallState
from telephony.engine.timers import Timer

# Of a session that is due: wait until then for a moment in which nobody speaks. 58 minutes of an
# hour.
RENEW_AT_LAST = 29 / 30
LOOK_AGAIN_S = 1.0
# For the text of what was said last: no other session reports it.
TRANSCRIPT_S = 5.0

_REPLACED: dict[OnErrorCode, str] = {model_error_code(code): code for code in REPLACED_CODES}


class Renewal:
    def __init__(self, state: CallState, startup: Startup) -> None:
        self._state = state
        self._startup = startup
        self._breaks = Breaks()
        # Until the last session was replaced for a failure: further ones show that this helped.
        self._responses = -1
        self._is_full = False
        self._due_at: float | None = None

    def recovers(self, failure: ModelFailed) -> bool:
        """Go on with another session, if this one fails for good and another may not."""
        why = _REPLACED.get(failure.code)
        has_helped = self._state.responses > self._responses
        if why is None or not has_helped or not self.follows_break(why):
            return False
        self._responses = self._state.responses
        return True

    def follows_break(self, why: str) -> bool:
        """Go on with another session, unless the call is ending or they break too often.

        Return True if it goes on.
        """
        if self._state.phase not in (Phase.STARTING, Phase.TALKING):
            return False
        if not self._breaks.add(self._state.now):
            return False
        self._begin(why)
        return True

    def start_over(self, why: str, after_s: float) -> None:
        """Leave a session that refused its configuration but was asked to speak, for another."""
        self._begin(why, after_s)

    def session_full(self) -> None:
        """Replace the session at the next moment in which nobody speaks."""
        if self._state.phase in (Phase.TALKING, Phase.LEAVING):
            self._is_full = True
            self._state.context.start_timer(Timer.RENEWAL, 0.0)

    def due(self) -> None:
        """Replace a session that is too old or full, when nobody speaks and no tool runs."""
        state = self._state
        self._due_at = state.now if self._due_at is None else self._due_at
        is_told = state.transcript.is_complete or state.now - self._due_at >= TRANSCRIPT_S
        is_quiet = is_told and not (state.is_busy or state.is_models_turn)
        age_s = state.now - self._startup.succeeded_at
        is_urgent = age_s >= self._startup.lifetime_s * RENEW_AT_LAST
        if state.phase is Phase.TALKING and (is_quiet or is_urgent):
            self._begin("full" if self._is_full else "age")
        else:
            state.context.start_timer(Timer.RENEWAL, LOOK_AGAIN_S)

    def _begin(self, why: str, after_s: float = 0.0) -> None:
        state = self._state
        self._is_full, self._due_at = False, None
        owes, is_cut = self._owes(), state.answers.is_active
        loses_words = state.transcript.awaits_words
        state.forget_model()
        state.early.clear()  # the history has them
        if is_cut:  # the next session says it from the beginning
            state.cut_audio()
        state.note(EventKind.MODEL_RENEWED, why=why)
        self._startup.again(is_greeted=state.is_greeted, owes=owes, loses_words=loses_words)
        state.phase = Phase.STARTING
        state.timers.clear(Timer.RENEWAL)
        state.pause_silence()
        state.do(ConnectModel(state.plan, after_s))

    def _owes(self) -> bool:
        """Return True if it is the model's turn, and not only to greet: that is repeated anyway."""
        state = self._state
        greets = state.plan.greeting and not state.is_greeted
        is_turn = bool(state.transcript.lines()) if greets else state.is_models_turn
        return self._startup.owes or is_turn
