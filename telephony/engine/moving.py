"""Takes a snapshot of a call's state, and takes one up."""

from __future__ import annotations

from telephony.engine.history import heard_of
from telephony.engine.snapshot import Leave, MoveReason, Snapshot, moved
from telephony.engine.state import CallState
from telephony.engine.timers import Timer


def snapshot_of(
    state: CallState,
    now: float,
    reason: MoveReason,
    *,
    owes: bool,
    loses_words: bool,
    leave: Leave | None,
) -> Snapshot:
    """Return the conversation of a call that is not over."""
    lines = state.transcript.heard_until(state.playback.unheard(now))
    is_told = any(line.role == "assistant" and heard_of(line) for line in lines)
    is_greeted = state.has_spoken or is_told
    has_asked = any(line.role == "user" for line in lines)
    return Snapshot(
        plan=state.plan,
        reason=reason,
        left_s=state.timers.at(Timer.LENGTH, now) - now,
        lines=moved(lines, -now),
        tool_runs=moved(state.tools.kept(), -now),
        calls=moved(state.tools.told, -now),
        usage=state.usage,
        billed_from=None if state.billed_from is None else state.billed_from - now,
        has_responded=state.has_spoken,
        is_greeted=is_greeted,
        owes=owes or (_is_models_turn(state) if is_greeted else has_asked),
        leave=leave,
        digits=state.keypad.digits,
        notes=state.context.timeline.counts(),
        stream_breaks=tuple(at - now for at in state.stream_breaks.at),
        silence_left_s=state.silence_left_s,
        loses_words=loses_words,
    )


def _is_models_turn(state: CallState) -> bool:
    """Return True if the model has something to say, or has not been heard to its end."""
    return state.is_models_turn or state.playback.is_outstanding or bool(state.tools)


def take_up(state: CallState, snapshot: Snapshot, *, ago: float) -> None:
    """Continue in a new state where a snapshot was taken, ``ago`` seconds before now."""
    then = state.now - ago
    state.timers.set(Timer.LENGTH, then + snapshot.left_s)
    state.transcript.follow(moved(snapshot.lines, then))
    state.tools.follow(moved(snapshot.tool_runs, then), moved(snapshot.calls, then))
    state.usage = snapshot.usage
    if snapshot.billed_from is not None:
        state.billed_from = then + snapshot.billed_from
    state.has_responded = snapshot.has_responded
    state.context.timeline.follow(snapshot.notes)
    state.keypad.follow(snapshot.digits)
    if snapshot.silence_left_s is not None:
        state.follow_silence(snapshot.silence_left_s - ago)
    state.stream_breaks.at = tuple(then + at for at in snapshot.stream_breaks)
    if snapshot.is_greeted:
        state.reply_times.follow()
