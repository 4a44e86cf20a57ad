"""The outcome of a call's conversation, made from what its session knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from telephony.engine.actions import Finish
from telephony.engine.costs import TokenUsage
from telephony.engine.session import CallSession
from telephony.engine.snapshot import MoveReason
from telephony.engine.tool_runs import ToolRun
from telephony.engine.transcript import Line
from telephony.models import Call
from telephony.outcomes import Outcome
from telephony.services import tool_call_line, transcript_line
from telephony.voice.handover import Conversation, sealed_conversation


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Makes the outcome of a call: again and again while it is in progress, and at its end.

    Making one is work for a thread, so it is returned as a function.

    :param key: the one to seal the conversation with, "" for a call that cannot move.
    :param wall_time: returns the time of a moment on the session's clock.
    """

    call: Call
    key: str = field(repr=False)
    session: CallSession
    wall_time: Callable[[float], datetime]

    def so_far(self, model: str, reason: MoveReason, now: float) -> Callable[[], Outcome]:
        """Make the outcome if the call ended now, with the conversation for another engine.

        :param reason: why that would go on with it.
        :param now: on the session's clock.
        """
        session = self.session
        snapshot = session.snapshot(reason, now) if self.key else None
        conversation = None if snapshot is None else Conversation(snapshot, datetime.now(UTC))
        return partial(
            self._of, model, session.lines(), session.tool_runs(), session.usage, conversation
        )

    def at_end(self, model: str, finish: Finish) -> Callable[[], Outcome]:
        return partial(self._of, model, finish.transcript, finish.tool_runs, finish.usage)

    def _of(
        self,
        model: str,
        lines: Sequence[Line],
        tool_runs: Sequence[ToolRun],
        usage: TokenUsage,
        conversation: Conversation | None = None,
    ) -> Outcome:
        billed_from = self.session.billed_from
        return Outcome(
            model,
            self.transcript(lines),
            usage,
            tool_calls=[tool_call_line(run, self.wall_time(run.at)) for run in tool_runs],
            billed_from=None if billed_from is None else self.wall_time(billed_from),
            conversation=(
                sealed_conversation(self.call, self.key, conversation) if conversation else b""
            ),
        )

    def transcript(self, lines: Sequence[Line]) -> list[dict[str, Any]]:
        """Return the turns in the format of onCallEnd."""
        return [
            transcript_line(
                line.role, line.text, self.wall_time(line.at), interrupted=line.interrupted
            )
            for line in lines
        ]
