"""Turns, derived from a stream that has none: fragments of transcripts, and sound and silence.

The protocol reports neither turns nor their ends. Time is the session's clock, in milliseconds: the
model's audio is continuous, so its length tells how much time has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from telephony.engine.events import (
    AgentAudioEnded,
    AgentTranscribed,
    CallerTranscribed,
    Event,
    ItemAdded,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    Transcribing,
)

# Without a fragment or a sound for this long, a turn is over.
GAP_MS = 800
# The times of fragments are OpenAI's: a wrong one must not make up a long wait.
_MOST_AGO_MS = 5_000


@dataclass(slots=True)
class _Turn:
    item_id: str
    quiet_ms: int = 0  # since the last fragment or sound
    is_heard: bool = True  # the agent: its audio has not paused; the caller: still speaks
    text: str = ""
    end_ms: int = 0  # of the caller's speech
    is_aside: bool = False  # the agent: nobody asked for it


class Turns:
    """The turns of both sides. Each method yields the events that follow.

    ``session`` is the id of the model's session: a call may have several, and each item its own id.
    """

    def __init__(self) -> None:
        self.session = "live"
        #: True if the voice was asked to speak, and has not begun.
        self.is_voice_asked = False
        self.clock_ms = 0
        self._count = 0
        self._last_item: str | None = None
        self._agent: _Turn | None = None
        self._spoken: _Turn | None = None  # the agent's turn that ended last
        self._caller: _Turn | None = None

    @property
    def agent_item(self) -> str:
        """The item that the agent's sound belongs to; "" while it is silent."""
        return self._agent.item_id if self._agent else ""

    def added(self, item_id: str) -> ItemAdded:
        """Place an item that is not speech behind what there is."""
        return self._placed(item_id, "")

    def sounded(self) -> Iterator[Event]:
        """Take in sound of the agent."""
        if self._agent is None:
            yield from self._caller_is_silent()
            is_aside, self.is_voice_asked = not self.is_voice_asked, False
            self._agent = _Turn(self._new_id("agent"), is_aside=is_aside)
            yield ResponseStarted(self._agent.item_id, is_aside=is_aside)
            yield self._placed(self._agent.item_id, "assistant")
        self._agent.quiet_ms = 0
        self._agent.is_heard = True

    def passed(self, ms: int, *, is_silent: bool) -> Iterator[Event]:
        """Let time pass, in which the agent was silent or not."""
        self.clock_ms += ms
        if self._agent is not None and is_silent:
            if self._agent.is_heard:
                self._agent.is_heard = False
                yield AgentAudioEnded(self._agent.item_id)
            self._agent.quiet_ms += ms
            if self._agent.quiet_ms >= GAP_MS:
                yield from self._end_agent()
        if self._caller is not None:
            self._caller.quiet_ms += ms
            if self._caller.quiet_ms >= GAP_MS:
                yield from self._end_caller()

    def caller_said(self, text: str, start_ms: int, end_ms: int) -> Iterator[Event]:
        """Take in a fragment of what the caller said between these times."""
        if self._caller is None:
            # The agent's words so far were interrupted, and what follows are others.
            yield from self._end_agent()
            self._caller = _Turn(self._new_id("caller"))
            yield SpeechStarted(self._caller.item_id, self._ago_s(start_ms))
        self._caller.text += text
        self._caller.end_ms = end_ms
        self._caller.quiet_ms = 0
        yield Transcribing(self._caller.item_id, "user", self._caller.text)

    def agent_said(self, text: str) -> Iterator[Event]:
        """Take in a fragment of what the agent said; it may come after the turn has ended."""
        turn = self._agent or self._spoken
        if turn is None:
            turn = self._spoken = _Turn(self._new_id("agent"))
            yield self._placed(turn.item_id, "assistant")
        turn.text += text
        if turn is self._spoken:
            yield AgentTranscribed(turn.item_id, turn.text)
        else:
            yield Transcribing(turn.item_id, "assistant", turn.text)

    def cut(self) -> Iterator[Event]:
        """End the caller's turn: the session is over, and the agent has not said all it had to."""
        yield from self._end_caller()

    def end(self) -> Iterator[Event]:
        """End all turns: nothing more will be heard."""
        yield from self._end_agent()
        yield from self._end_caller()

    def _end_agent(self) -> Iterator[Event]:
        turn, self._agent = self._agent, None
        if turn is not None:
            self._spoken = turn
            yield AgentAudioEnded(turn.item_id)
            yield AgentTranscribed(turn.item_id, turn.text)
            yield ResponseDone(turn.item_id, "completed", spoke=True, is_aside=turn.is_aside)

    def _caller_is_silent(self) -> Iterator[Event]:
        """Report the end of the caller's speech, whose last words may still be on their way."""
        if self._caller is not None and self._caller.is_heard:
            self._caller.is_heard = False
            yield SpeechStopped(self._caller.item_id, self._ago_s(self._caller.end_ms))
            yield self._placed(self._caller.item_id, "user")

    def _end_caller(self) -> Iterator[Event]:
        yield from self._caller_is_silent()
        turn, self._caller = self._caller, None
        if turn is not None:
            yield CallerTranscribed(turn.item_id, turn.text)

    def _ago_s(self, ms: int) -> float:
        return min(max(0, self.clock_ms - ms), _MOST_AGO_MS) / 1000

    def _placed(self, item_id: str, role: str) -> ItemAdded:
        before, self._last_item = self._last_item, item_id
        return ItemAdded(item_id, before, role)

    def _new_id(self, side: str) -> str:
        self._count += 1
        return f"{self.session}_{side}_{self._count}"
