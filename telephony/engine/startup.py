"""The start of a call: the model receives its configuration and accepts it."""

from __future__ import annotations

from collections.abc import Sequence

from telephony.engine.actions import ConnectModel
from telephony.engine.answers import MOST_FAILURES, RETRY_S, greeting
from telephony.engine.bounds import sentence
from telephony.engine.codes import ErrorCode, EventKind, model_error_code
from telephony.engine.commands import CONFIGURATION, AddText, Configure, HistoryItem
from telephony.engine.context import ModelFailed
from telephony.engine.events import ModelErrored, ModelReady, ModelUnreachable
from telephony.engine.history import history
from telephony.engine.model_errors import ACCOUNT_CODES, PASSING_CODES
from telephony.engine.phase import Phase
from telephony.engine.state import CallState
from telephony.engine.timers import Timer
from telephony.engine.transcript import Line

# OpenAI ends a session after an hour, unless the session says when.
LIFETIME_S = 3_600.0
# A shorter one is not believed: this engine's clock may be wrong, and a session that expires early
# is replaced anyway.
SHORTEST_LIFETIME_S = 120.0
# The part of its lifetime after which a session is replaced (``renewal``): 55 minutes of an hour.
RENEW_AFTER = 11 / 12
STARTUP_S = 10.0  # for the model, or the last one of several, to accept its configuration
# A caller who was speaking when the model was lost goes on by then, or waits for an answer.
SPEAKS_WITHIN_S = 2.0
LOST = (
    "The connection broke while the caller spoke, so what they said last is lost. Ask them to "
    "repeat it, unless they go on by themselves."
)
_ACCOUNT_ERRORS = frozenset(map(model_error_code, ACCOUNT_CODES))


class Startup:
    """Raises :class:`ModelFailed` if the model cannot be reached or configured."""

    def __init__(self, state: CallState) -> None:
        self._state = state
        self._began_at = state.now
        self._refusals = 0
        self.last_error = ""  # the last one that the model reported, about anything
        #: True if the session of the model goes on with a conversation.
        self.is_again = False
        self.succeeded_at = state.now
        #: How long the session of the model lasts from then on.
        self.lifetime_s = LIFETIME_S
        self._lines: Sequence[Line] = ()  # what was said before
        self._is_greeted = False
        self._sent_before = 0  # bytes of audio that other sessions had sent
        #: True if it is the model's turn as soon as it is connected.
        self.owes = False
        #: True if the model is told that words of the caller are lost.
        self.loses_words = False
        self._give_up_at = state.now + STARTUP_S
        self._start_timer()

    def _start_timer(self) -> None:
        """Give the model its share of the time: each one that may follow needs as much."""
        left = self._give_up_at - self._state.now
        self._state.context.start_timer(Timer.STARTUP, left / len(self._state.plan.models))

    def falls_back(self, failure: ModelFailed) -> bool:
        """Go on with the next model of the plan; return False if there is none, or it cannot help.

        Not once this model has done something: the caller would hear another beginning.
        """
        state = self._state
        plan = state.plan.with_next_model()
        has_acted = state.playback.total > self._sent_before or (
            not self.is_again and (state.has_responded or state.tools)
        )
        if state.phase is not Phase.STARTING or plan is None or has_acted:
            return False
        if failure.code in _ACCOUNT_ERRORS:
            return False
        state.note(
            EventKind.MODEL_FALLBACK,
            model=state.plan.model,
            code=failure.code,
            message=str(failure),
            to=plan.model,
        )
        state.plan = plan
        if self.is_again and self._is_greeted:  # otherwise ``ready`` requests the greeting again
            self.owes = self.owes or state.answers.is_busy
        state.forget_model()
        self._refusals, self.last_error = 0, ""
        self._start_timer()
        state.do(ConnectModel(plan))
        return True

    def again(self, *, is_greeted: bool, owes: bool, loses_words: bool = False) -> None:
        """Start another session, which learns what was said so far.

        If the one before had not started either, this one has what is left of its time.

        :param owes: it is the model's turn.
        :param loses_words: what the caller said last, or says, has not reached the transcript.
        """
        state = self._state
        self.loses_words = self.loses_words or loses_words
        self.is_again, self._is_greeted, self.owes = True, is_greeted, owes
        self._lines, self._sent_before = state.transcript.lines(), state.playback.total
        if state.phase is not Phase.STARTING:
            self._began_at, self._give_up_at = state.now, state.now + STARTUP_S
            self._refusals, self.last_error = 0, ""
        self._start_timer()

    def ready(self, event: ModelReady) -> None:
        """Configure the model, which is connected; tell it the history or request the greeting."""
        state = self._state
        if state.context.is_connected:
            state.note(EventKind.REPEATED, what="the start of the session")
            return
        state.context.is_connected = True
        past: tuple[HistoryItem, ...] = ()
        if self.is_again:
            past = history(self._lines, state.tools.told, state.context.own_item)
        if self.loses_words:
            past += (AddText(state.context.own_item(), LOST, role="system"),)
        state.tell(Configure(state.plan, past))
        if state.plan.greeting and not self._is_greeted:
            state.answers.ask(greeting(state.plan.greeting))
        if self.owes:
            state.answers.ask()
        state.answers.send_due()

    def configure(self) -> None:
        self._state.tell(Configure(self._state.plan))

    def succeeded(self, lifetime_s: float | None = None) -> bool:
        """Begin the conversation; return False if it had begun, or the model is not connected.

        :param lifetime_s: how long the session of the model will last, if it says so.
        """
        state = self._state
        if state.phase is not Phase.STARTING or not state.context.is_connected:
            return False
        if self.loses_words and not self.owes:  # the caller may still be speaking
            state.answers.ask_later(SPEAKS_WITHIN_S)
        self.owes = self.loses_words = False
        state.phase, self.succeeded_at = Phase.TALKING, state.now
        is_told = lifetime_s is not None and lifetime_s >= SHORTEST_LIFETIME_S
        self.lifetime_s = lifetime_s if lifetime_s is not None and is_told else LIFETIME_S
        state.context.start_timer(Timer.RENEWAL, self.lifetime_s * RENEW_AFTER)
        if state.billed_from is None:
            state.billed_from = state.now
        state.timers.clear(Timer.STARTUP)
        state.timers.clear(Timer.CONFIGURE)
        ms = state.context.ms_since(self._began_at)
        state.note(EventKind.MODEL_READY, model=state.plan.model, ms=ms)
        state.resume_silence()
        return True

    def is_refused_by(self, error: ModelErrored) -> bool:
        """Return True if the error is, or may be, about the configuration."""
        if error.about:
            return error.about == CONFIGURATION
        return not self._state.answers.is_asked

    def refused(self, error: ModelErrored) -> float:
        """Return after how many seconds to configure the model again, if that may help.

        OpenAI usually names what it refuses, so an error that names nothing is worth another
        attempt.
        """
        self._refusals += 1
        may_pass = error.code in PASSING_CODES or not error.about
        if may_pass and self._refusals <= MOST_FAILURES:
            return RETRY_S * self._refusals
        raise ModelFailed(ErrorCode.MODEL_REJECTED_CONFIGURATION, error.message)

    def overdue(self) -> None:
        why = f" Its last error: {sentence(self.last_error)}" if self.last_error else ""
        raise ModelFailed(ErrorCode.MODEL_UNREACHABLE, f"The model was not ready in time.{why}")

    def unreachable(self, event: ModelUnreachable) -> None:
        status = f" with status {event.status}" if event.status else ""
        is_key_wrong = event.status == 401
        code = model_error_code("invalid_api_key") if is_key_wrong else ErrorCode.MODEL_UNREACHABLE
        why = sentence(event.reason)
        raise ModelFailed(code, f"OpenAI could not be reached{status}: {why}")
