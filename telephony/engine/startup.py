"""The start of a call: the model gets its configuration, and says that it accepts it."""

from __future__ import annotations

from telephony.engine import model_writer
from telephony.engine.answers import MOST_FAILURES, PASSING_CODES, RETRY_S, Answers, greeting
from telephony.engine.bounds import sentence
from telephony.engine.codes import ErrorCode, EventKind, model_error_code
from telephony.engine.desk import Desk, ModelFailed
from telephony.engine.events import ModelErrored, ModelUnreachable
from telephony.engine.plan import CallPlan
from telephony.engine.timers import Timer

STARTUP_S = 10.0  # for the model to accept its configuration


class Startup:
    """Raises :class:`ModelFailed` when the model cannot be reached or will not be configured."""

    def __init__(self, desk: Desk, plan: CallPlan, answers: Answers) -> None:
        self._desk = desk
        self._plan = plan
        self._answers = answers
        self._began_at = desk.now
        self._refusals = 0
        self.last_error = ""  # of the model's, about anything
        desk.alarm(Timer.STARTUP, STARTUP_S)

    def begin(self) -> None:
        """Configure the model, which is connected, and ask for the greeting."""
        self.configure()
        if self._plan.greeting:
            self._answers.ask(greeting(self._plan.greeting))
        self._answers.send_due()

    def configure(self) -> None:
        self._desk.tell(model_writer.session_update(self._plan))

    def succeeded(self) -> None:
        self._desk.timers.clear(Timer.STARTUP)
        self._desk.timers.clear(Timer.CONFIGURE)
        ms = self._desk.ms_since(self._began_at)
        self._desk.note(EventKind.MODEL_READY, model=self._plan.model, ms=ms)

    def is_refused_by(self, error: ModelErrored) -> bool:
        """Return True if the error is, or may be, about the configuration."""
        if error.event_id:
            return error.event_id == model_writer.CONFIGURATION
        if error.param:
            return error.param.startswith("session")
        return not self._answers.is_asked

    def refused(self, error: ModelErrored) -> None:
        """Try again if that may help; a greeting would be spoken without the configuration.

        OpenAI names what it refuses: of an error that names nothing, a second one shows more.
        """
        self._refusals += 1
        may_pass = error.code in PASSING_CODES or not (error.event_id or error.param)
        if may_pass and not self._answers.is_busy and self._refusals <= MOST_FAILURES:
            self._desk.alarm(Timer.CONFIGURE, RETRY_S * self._refusals)
        else:
            raise ModelFailed(ErrorCode.MODEL_REJECTED_CONFIGURATION, error.message)

    def overdue(self) -> None:
        why = f" Its last error: {sentence(self.last_error)}" if self.last_error else ""
        raise ModelFailed(ErrorCode.MODEL_UNREACHABLE, f"The model did not get ready.{why}")

    def unreachable(self, event: ModelUnreachable) -> None:
        status = f" with status {event.status}" if event.status else ""
        is_key_wrong = event.status == 401
        code = model_error_code("invalid_api_key") if is_key_wrong else ErrorCode.MODEL_UNREACHABLE
        why = sentence(event.reason)
        raise ModelFailed(code, f"OpenAI could not be reached{status}: {why}")
