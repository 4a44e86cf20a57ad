"""The state of a call that its concerns share: starting, hearing, speaking, tools, leaving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from telephony.engine.actions import Action, ClearAudio, SendMark
from telephony.engine.answers import Answers
from telephony.engine.breaks import Breaks
from telephony.engine.codes import EventKind
from telephony.engine.commands import AddText, Command
from telephony.engine.context import CallContext
from telephony.engine.costs import TokenUsage
from telephony.engine.keypad import Keypad
from telephony.engine.models import lacks
from telephony.engine.phase import Phase
from telephony.engine.plan import CallPlan
from telephony.engine.playback import Playback, Unheard
from telephony.engine.reply_times import ReplyTimes
from telephony.engine.timers import Timer, Timers
from telephony.engine.toolbox import Toolbox
from telephony.engine.transcript import Transcript

# A caller who speaks as soon as there is a model again is heard within this time.
LEAST_SILENCE_S = 3.0


class CallState:
    def __init__(self, plan: CallPlan, now: float, may_call: Callable[[str], bool]) -> None:
        self.plan = plan
        self.may_call = may_call
        self.phase = Phase.STARTING
        self.context = CallContext(now)
        self.playback = Playback()
        self.answers = Answers(self.context, self.playback)
        self.keypad = Keypad(self.context)
        # Turns that the caller typed or pressed before the model was configured.
        self.early: list[AddText] = []
        self.tools = Toolbox(self.context, plan)
        self.transcript = Transcript()
        self.reply_times = ReplyTimes(self.context)
        self.usage = TokenUsage()
        self.billed_from: float | None = None
        self.has_responded = False  # other than with a failure
        self.recalled_bytes = 0  # of a greeting that the model said in another call
        self.responses = 0  # of this engine, other than failures
        self.stream_breaks = Breaks()
        # What was left of the wait for silence when the model was lost.
        self._silence_left_s: float | None = None

    @property
    def now(self) -> float:
        return self.context.now

    @property
    def timers(self) -> Timers:
        return self.context.timers

    @property
    def is_over(self) -> bool:
        """Return True once the call has ended for the caller."""
        return self.phase is Phase.DRAINING or self.phase is Phase.FINISHED

    @property
    def is_speaking(self) -> bool:
        """Return True while the caller speaks."""
        return self.answers.is_caller_speaking

    @property
    def is_busy(self) -> bool:
        return self.is_speaking or bool(self.tools) or self.playback.is_outstanding

    @property
    def inactivity_s(self) -> float:
        return self.plan.inactivity_timeout_ms / 1000

    def rest(self) -> None:
        """Restart the wait for marks, and the one for silence unless the call is busy.

        A caller who waits for the model to start is not silent.
        """
        if self.playback.is_outstanding:
            self.timers.set(Timer.HEARD, self.playback.overdue_at)
        else:
            self.timers.clear(Timer.HEARD)
        self._silence_left_s = None
        if self.is_busy or self.phase is Phase.STARTING:
            self.timers.clear(Timer.IDLE)
        else:
            self.context.start_timer(Timer.IDLE, self.inactivity_s)

    def pause_silence(self) -> None:
        """Stop the wait for silence: the call has no model, and the caller may wait for it."""
        self._silence_left_s = self.silence_left_s
        self.timers.clear(Timer.IDLE)

    @property
    def silence_left_s(self) -> float | None:
        """How much longer silence may last; None if the call is busy."""
        if self.timers.is_set(Timer.IDLE):
            return self.timers.at(Timer.IDLE, self.now) - self.now
        return self._silence_left_s

    def follow_silence(self, left_s: float | None) -> None:
        """Go on with the wait for silence of a call that has moved."""
        self._silence_left_s = left_s

    def resume_silence(self) -> None:
        """Go on with the wait for silence, unless the call is busy, or was since it stopped."""
        left_s = self._silence_left_s
        self.rest()
        if left_s is not None and self.timers.is_set(Timer.IDLE):
            left_s = min(max(left_s, LEAST_SILENCE_S), self.inactivity_s)
            self.context.start_timer(Timer.IDLE, left_s)

    def write_down(self, text: str) -> str:
        """Add a turn that was not spoken to the transcript; return the id of its item."""
        item_id = self.context.own_item()
        self.transcript.write(item_id, "user", text, self.now)
        return item_id

    def ask_about(self, item: AddText) -> None:
        """Add a turn that was not spoken to the conversation, and request a response to it.

        If the model waits for a tool, the response to its result is one to this turn too.
        """
        self.reply_times.caller_waits()
        self.answers.add_item(item)
        if not self.tools or lacks(self.plan.model, "one_task"):
            self.answers.ask()

    def send_mark(self, mark: str | None) -> None:
        if mark:
            self.do(SendMark(mark))

    @property
    def is_models_turn(self) -> bool:
        """Return True if the model has yet to answer: a request, speech, keys or text."""
        return self.answers.is_busy or self.answers.is_due or bool(self.early)

    @property
    def has_spoken(self) -> bool:
        """Return True if the model has responded in this call, or its audio has come."""
        return self.has_responded or self.playback.total > self.recalled_bytes

    @property
    def is_greeted(self) -> bool:
        """Return True if the agent has said something."""
        is_told = any(line.role == "assistant" for line in self.transcript.lines())
        return self.has_responded or is_told

    def cut_audio(self) -> list[Unheard]:
        """Stop the audio; return how much of each item the caller heard, oldest item first."""
        if not self.playback.is_outstanding:
            return []
        self.do(ClearAudio())
        cleared = self.playback.clear(self.now)
        for unheard in cleared:
            self.transcript.interrupt(unheard)
        return cleared

    def forget_model(self) -> None:
        """Forget what one model was asked: another one takes its place."""
        self.context.is_connected = False
        self.answers = Answers(self.context, self.playback)
        self.transcript.settle()
        for timer in (Timer.CONFIGURE, Timer.SPEECH, *Answers.TIMERS):
            self.timers.clear(timer)

    # Shortcuts

    def tell(self, command: Command) -> None:
        self.context.tell(command)

    def note(self, kind: EventKind, **detail: Any) -> None:
        self.context.note(kind, **detail)

    def do(self, action: Action) -> None:
        self.context.do(action)
