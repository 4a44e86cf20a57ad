"""The end of a call: the goodbye, the caller's side, and the last words of the model's side."""

from __future__ import annotations

from telephony.engine.actions import CloseCaller, Finish, GiveOut, ReportError
from telephony.engine.after_stream import APOLOGY, AfterStream, Dial, Say
from telephony.engine.bounds import clipped, sentence
from telephony.engine.codes import EndedReason, OnErrorCode
from telephony.engine.commands import AddText, CancelResponse, CommitSpeech, Conclude
from telephony.engine.context import ModelFailed
from telephony.engine.models import lacks
from telephony.engine.phase import Phase
from telephony.engine.snapshot import Leave
from telephony.engine.state import CallState
from telephony.engine.timers import Timer, ToolTimer

GOODBYE_S = 15.0  # at most, for the caller to hear the goodbye
# For the last transcripts after the end of the call. This time is not billed.
TRANSCRIPT_S = 5.0

# Corrects what the model was told: that it ends the call.
STAYED = (
    "The caller spoke before the call was ended or transferred, so it goes on. If that is still "
    "wanted, call the tool again."
)


class Leaving:
    def __init__(self, state: CallState) -> None:
        self._state = state
        # How the call ends after the goodbye, once there is one.
        self._leave: Leave = (EndedReason.INTERNAL_ERROR, None)
        self._reason = EndedReason.INTERNAL_ERROR  # until the call has ended
        self._ended_at = state.now
        self._is_patient = True  # waits for what the model has yet to report
        self._awaits_close = False  # until then, it may report more than it has begun

    @property
    def planned(self) -> Leave | None:
        """How the call ends, if the agent is saying goodbye."""
        return self._leave if self._state.phase is Phase.LEAVING else None

    def follow(self, leave: Leave) -> None:
        """End the call: the goodbye was said before the call moved."""
        self._leave = leave
        self._state.context.start_timer(Timer.GOODBYE, 0.0)

    # The goodbye

    def prepare(self, reason: EndedReason, after: Dial | None) -> None:
        """End the call once the caller has heard the goodbye.

        A second call changes nothing, but a transfer replaces a hang-up, never the reverse.
        """
        state = self._state
        is_leaving = state.phase is Phase.LEAVING
        if after or not is_leaving:
            self._leave = (reason, after)
        if not is_leaving:
            state.phase = Phase.LEAVING
            state.context.start_timer(Timer.GOODBYE, GOODBYE_S)

    def stay(self) -> None:
        """Cancel the goodbye: the caller has more to say, so the model decides again."""
        state = self._state
        if state.phase is Phase.LEAVING:
            state.phase = Phase.TALKING
            for timer in (Timer.GOODBYE, Timer.VOICE):
                state.timers.clear(timer)
            state.answers.add_item(AddText(state.context.own_item(), STAYED, role="system"))

    def leave_when_heard(self) -> None:
        state = self._state
        if (
            state.phase is Phase.LEAVING
            and not state.playback.is_outstanding
            and not state.answers.is_busy
            and not state.timers.is_set(Timer.VOICE)  # it may be the goodbye
        ):
            self.goodbye_over()

    def goodbye_over(self) -> None:
        self.end(*self._leave)

    # The end

    def model_failed(self, failure: ModelFailed) -> None:
        self.lose_model(failure.code, str(failure), EndedReason.MODEL_ERROR)

    def lose_model(self, code: OnErrorCode, message: str, reason: EndedReason) -> None:
        """End the call because the model failed, once the caller has heard a goodbye."""
        state = self._state
        if state.phase is not Phase.LEAVING or not state.playback.is_outstanding:
            self.fail(code, message, reason)
            return
        if state.answers.is_busy:  # there was more to say
            state.do(ReportError(code, clipped(sentence(message))))
        state.forget_model()
        state.timers.clear(Timer.VOICE)

    def fail(self, code: OnErrorCode, message: str, reason: EndedReason) -> None:
        """End the call because the model failed; a call that was already ending ends as planned."""
        state = self._state
        state.do(ReportError(code, clipped(sentence(message))))
        self._is_patient = False
        if not state.has_spoken:
            state.billed_from = None
        self.end(*(self._leave if state.phase is Phase.LEAVING else (reason, Say(APOLOGY))))

    def end(self, reason: EndedReason, after: AfterStream = None) -> None:
        """End the caller's side; the model's continues until the last transcript arrives."""
        state = self._state
        if state.is_over:
            return
        has_begun = state.phase is not Phase.STARTING
        state.phase = Phase.DRAINING
        self._reason, self._ended_at = reason, state.now
        if state.keypad.is_used:
            state.write_down(state.keypad.take())
        for unheard in state.playback.close(state.now):
            state.transcript.interrupt(unheard)
        state.timers.clear_all(but=ToolTimer)  # running tools finish: their effects are real
        state.context.start_timer(Timer.TRANSCRIPT, TRANSCRIPT_S)
        if reason is not EndedReason.CALLER_HANGUP:
            state.do(CloseCaller(after))
        if self._is_patient:
            if state.is_speaking:
                state.tell(CommitSpeech())
            if state.answers.is_active:
                state.tell(CancelResponse())
            state.tell(Conclude())
            is_told = has_begun and state.context.is_connected
            self._awaits_close = is_told and not lacks(state.plan.model, "reports_end")
        self.finish_when_complete()

    def stream_broke(self) -> None:
        """Go on in another media stream, unless they break too often."""
        state = self._state
        if state.stream_breaks.add(state.now):
            state.do(GiveOut())
        else:
            self.end(EndedReason.CALLER_HANGUP)

    def wait_no_longer(self) -> None:
        """Give up what the model has yet to report."""
        self._is_patient = False

    def finish_when_complete(self) -> None:
        state = self._state
        is_told = state.transcript.is_complete and not state.answers.is_active
        if ((is_told and not self._awaits_close) or not self._is_patient) and not state.tools:
            self._finish()

    def _finish(self) -> None:
        state = self._state
        state.phase = Phase.FINISHED
        state.timers.clear_all()
        state.do(
            Finish(
                self._reason,
                self._ended_at,
                state.transcript.lines(),
                state.tools.kept(),
                state.usage,
            )
        )
