"""The model reports errors, fails, or leaves: what the call does about it."""

from __future__ import annotations

from telephony.engine import events
from telephony.engine.bounds import LONGEST_NAME, clipped, sentence
from telephony.engine.codes import EndedReason, ErrorCode, EventKind, model_error_code
from telephony.engine.context import ModelFailed
from telephony.engine.leaving import Leaving
from telephony.engine.model_errors import FATAL_CODES
from telephony.engine.phase import Phase
from telephony.engine.renewal import Renewal
from telephony.engine.startup import Startup
from telephony.engine.state import CallState
from telephony.engine.timers import Timer


class ModelTrouble:
    def __init__(
        self, state: CallState, startup: Startup, renewal: Renewal, leaving: Leaving
    ) -> None:
        self._state = state
        self._startup = startup
        self._renewal = renewal
        self._leaving = leaving

    def failed(self, failure: ModelFailed) -> None:
        """Go on with another model or session, or end the call."""
        if not (self._startup.falls_back(failure) or self._renewal.recovers(failure)):
            self._leaving.model_failed(failure)

    def errored(self, event: events.ModelErrored) -> None:
        state = self._state
        state.note(EventKind.MODEL_ERROR, code=event.code)
        if event.code in FATAL_CODES:
            raise ModelFailed(model_error_code(event.code), event.message)
        if state.phase is Phase.STARTING and self._startup.is_refused_by(event):
            self._configure_again(event, self._startup.refused(event))
        elif state.answers.is_refused_by(event):
            state.answers.refused(event)
        elif state.phase is Phase.STARTING:
            self._startup.last_error = event.message

    def _configure_again(self, refusal: events.ModelErrored, after_s: float) -> None:
        """Retry, in another session if a response is pending, such as the greeting.

        This one would speak it without the configuration.
        """
        if self._state.answers.is_busy:
            self._renewal.start_over(refusal.code, after_s)
        else:
            self._state.context.start_timer(Timer.CONFIGURE, after_s)

    def not_understood(self, event: events.NotUnderstood) -> None:
        self._state.note(EventKind.NOT_UNDERSTOOD, what=clipped(event.what, LONGEST_NAME))

    def closed(self, event: events.ModelClosed) -> None:
        reason = f": {event.reason}" if event.reason else ""
        message = sentence(f"The connection to OpenAI was closed (code {event.code}){reason}")
        code = ErrorCode.MODEL_DISCONNECTED
        falls_back = self._startup.falls_back(ModelFailed(code, message))
        if not (falls_back or self._renewal.follows_break("closed")):
            self._leaving.lose_model(code, message, EndedReason.MODEL_DISCONNECTED)
