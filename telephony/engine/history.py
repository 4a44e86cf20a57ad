"""Tells a new session of the model what was said and done so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from telephony.engine.commands import AddText, AddToolCall, AddToolResult, HistoryItem
from telephony.engine.told_calls import ToldCall
from telephony.engine.transcript import Line

# Of the newest turns and tool calls: some 10,000 tokens, a third of the smallest context.
MOST_CHARACTERS = 40_000


def history(
    lines: Sequence[Line], calls: Iterable[ToldCall], new_id: Callable[[], str]
) -> tuple[HistoryItem, ...]:
    """Return the commands that add the newest turns and tool calls, oldest first.

    A turn of the agent ends where the caller interrupted it.
    """
    kept: list[Line | ToldCall] = []
    room = MOST_CHARACTERS
    for entry in reversed(_in_order(lines, calls)):
        room -= entry.size if isinstance(entry, ToldCall) else len(entry.text)
        if room < 0:
            break
        kept.insert(0, entry)
    return tuple(command for entry in kept for command in _commands(entry, new_id))


def _in_order(lines: Sequence[Line], calls: Iterable[ToldCall]) -> list[Line | ToldCall]:
    """Return turns and calls in the order of the conversation.

    A call follows the turns that began before it: the last of them may have announced it.
    """
    ordered: list[Line | ToldCall] = []
    waiting = sorted(calls, key=lambda call: call.at)
    for line in lines:
        while waiting and waiting[0].at < line.at:
            ordered.append(waiting.pop(0))
        ordered.append(line)
    return ordered + waiting


def _commands(entry: Line | ToldCall, new_id: Callable[[], str]) -> list[HistoryItem]:
    if isinstance(entry, ToldCall):
        made = AddToolCall(new_id(), entry.call_id, entry.name, entry.arguments)
        if entry.result is None:  # it follows
            return [made]
        return [made, AddToolResult(new_id(), entry.call_id, entry.result)]
    if entry.role == "assistant":
        text = heard_of(entry)
        return [AddText(new_id(), text, role="assistant")] if text else []
    return [AddText(new_id(), entry.text)]


def heard_of(line: Line) -> str:
    """Return the words of a turn that the caller heard, as far as the time tells."""
    if line.heard >= 1.0:
        return line.text
    return line.text[: round(len(line.text) * line.heard)].rpartition(" ")[0]
