"""What the conversations of ``bin/cluster`` consist of, word for word and token for token.

A caller asks numbered questions by the clock, and hangs up by the clock. The model answers each
one. For some of them it asks the backend, whose result is the answer.

The model reports the same tokens for every response of a kind, however long the conversation is.
The real one also bills what it has read, and reads a moved conversation again, as text. So equal
costs show that everything reported was counted once, and not what moving costs at OpenAI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from telephony.engine.costs import TokenUsage

MODEL = "gpt-realtime-2.1"
GREETING = "Hello."
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "look_up",
    "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
}

# From one question to the next: the answer takes half of it, so calls come to rest in between.
TURN_S = 3.0
# From the opened stream to the first question, and from the last turn until the caller hangs up:
# room for turns that take longer. The half second is far from those where a started second begins.
_LEAD_S, _REST_S = 2.0, 5.5

#: What the model reports for each of these; the lengths are no more than plausible.
USED: Mapping[str, TokenUsage] = {
    "speech": TokenUsage(text_in=90, audio_in=40, text_cached=128, text_out=9, audio_out=21),
    "call": TokenUsage(text_in=70, audio_in=30, text_cached=192, audio_cached=64, text_out=17),
    "transcript": TokenUsage(transcribed_seconds=0.75),
}


def needs_tool(number: int) -> bool:
    return number % 8 == 5


def question(number: int) -> str:
    return f"{'Find' if needs_tool(number) else 'Tell'} {number}."


def answer(number: int) -> str:
    return f"{'Found' if needs_tool(number) else 'Told'} {number}."


def number_in(text: str) -> int:
    """Return the number of a question or an answer; 0 for anything else."""
    word, _, rest = text.rstrip(".").partition(" ")
    known = word in ("Find", "Found", "Tell", "Told") and rest.isdecimal()
    return int(rest) if known else 0


def lines(turns: int) -> list[tuple[str, str]]:
    """Return the role and text of each line of the transcript."""
    spoken = [("assistant", GREETING)]
    for number in range(1, turns + 1):
        spoken += [("user", question(number)), ("assistant", answer(number))]
    return spoken


def asked_after(number: int) -> float:
    """Return when a question is asked, in seconds since the stream was opened."""
    return _LEAD_S + (number - 1) * TURN_S


def lasts(turns: int) -> float:
    """Return when the caller hangs up, in seconds since the stream was opened."""
    return turns * TURN_S + _REST_S


def all_used(kinds: Iterable[str]) -> TokenUsage:
    return sum((USED[kind] for kind in kinds), TokenUsage())


def prompt(call_sid: str) -> str:
    """Return the system prompt, from which the model knows the call."""
    return f"Answer questions.\n{call_sid}\n"
