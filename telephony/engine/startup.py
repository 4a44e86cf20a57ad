"""The start of a call: the model receives its configuration and accepts it."""

from __future__ import annotations

from telephony.engine import model_writer
from telephony.engine.answers import MOST_FAILURES, PASSING_CODES, RETRY_S, Answers, greeting
from telephony.engine.bounds import sentence
from telephony.engine.codes import ErrorCode, EventKind, model_error_code
from telephony.engine.context import CallContext, ModelFailed
from telephony.engine.events import ModelErrored, ModelUnreachable
from telephony.engine.plan import CallPlan
from telephony.engine.timers import Timer

STARTUP_S = 10.0  # for the model to accept its configuration


class Startup:
    """Raises :class:`ModelFailed` if the model cannot be reached or configured."""

    def __init__(self, context: CallContext, plan: CallPlan, answers: Answers) -> None:
        self._context = context
        self._plan = plan
        self._answers = answers
        self._began_at = context.now
        self._refusals = 0
        self.last_error = ""  # the last one that the model reported, about anything
        context.start_timer(Timer.STARTUP, STARTUP_S)

    def begin(self) -> None:
        """Configure the model, which is connected, and request the greeting."""
        self.configure()
        if self._plan.greeting:
            self._answers.ask(greeting(self._plan.greeting))
        self._answers.send_due()

    def configure(self) -> None:
        self._context.tell(model_writer.session_update(self._plan))

    def succeeded(self) -> None:
        self._context.timers.clear(Timer.STARTUP)
        self._context.timers.clear(Timer.CONFIGURE)
        ms = self._context.ms_since(self._began_at)
        self._context.note(EventKind.MODEL_READY, model=self._plan.model, ms=ms)

    def is_refused_by(self, error: ModelErrored) -> bool:
        """Return True if the error is, or may be, about the configuration."""
        if error.event_id:
            return error.event_id == model_writer.CONFIGURATION
        if error.param:
            return error.param.startswith("session")
        return not self._answers.is_asked

    def refused(self, error: ModelErrored) -> None:
        """Retry if that may help and no response is pending, such as a greeting.

        The model would speak a greeting without the configuration. OpenAI usually names what it
        refuses, so an error that names nothing is worth another attempt.
        """
        self._refusals += 1
        may_pass = error.code in PASSING_CODES or not (error.event_id or error.param)
        if may_pass and not self._answers.is_busy and self._refusals <= MOST_FAILURES:
            self._context.start_timer(Timer.CONFIGURE, RETRY_S * self._refusals)
        else:
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
