"""The message with which a session of GPT-Live starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from telephony.engine.builtin_tools import offered_tools
from telephony.engine.codecs.live.work import Message
from telephony.engine.commands import (
    CONFIGURATION,
    AddText,
    AddToolCall,
    AddToolResult,
    Configure,
    HistoryItem,
)
from telephony.engine.models import BACKEND_MODEL
from telephony.engine.plan import Tool

# What the voice reads out must be speech.
BACKEND_STYLE = (
    "What you write is read out on a phone call: write one or two short sentences without markup."
)
# OpenAI takes 128 messages and 8,192 tokens of history. A token has four bytes of English text, and
# about three of Chinese, a character.
MOST_MESSAGES = 128
MOST_BYTES = 20_000


def session_start(command: Configure) -> Message:
    """Return the session's configuration: mu-law in both directions, tools at the backend."""
    plan = command.plan
    return {
        "type": "session.start",
        "event_id": CONFIGURATION,
        "session": {
            "model": plan.model,
            "instructions": plan.system_prompt,
            "audio": {
                "format": {"type": "audio/pcmu", "rate": 8_000},
                "output": {"voice": plan.voice},
            },
            "input": _input(command.history),
            "store": False,
            "delegation": {
                "type": "responses",
                "responses": {
                    "model": BACKEND_MODEL,
                    "instructions": f"{plan.system_prompt}\n\n{BACKEND_STYLE}",
                    "tools": [_tool(tool) for tool in offered_tools(plan)],
                    "tool_choice": "auto",
                },
            },
        },
    }


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": False,
    }


def _input(history: Sequence[HistoryItem]) -> list[dict[str, Any]]:
    """Return the newest messages of the history, oldest first."""
    messages: list[dict[str, Any]] = []
    room = MOST_BYTES
    for item in reversed(history):
        message, text = _message(item)
        room -= len(text.encode(errors="replace"))
        if room < 0 or len(messages) == MOST_MESSAGES:
            break
        messages.insert(0, message)
    return messages


def _message(item: HistoryItem) -> tuple[dict[str, Any], str]:
    """Return a message and its text; the history of this protocol has only messages."""
    match item:
        case AddText():
            role, text = ("developer" if item.role == "system" else item.role), item.text
        case AddToolCall():
            role, text = "developer", f"The tool {item.name} was called with {item.arguments}."
        case AddToolResult():
            role, text = "developer", f"The result of the tool was: {item.result}"
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text}]
    return {"type": "message", "role": role, "content": content}, text
