"""The customer: a restaurant that lets a model answer its phone. A company decides all of this.

``configuration`` is its response to onCallStart, ``run_tool`` its response to onToolCall.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN, SANDBOX_OPENAI_KEY

# These sign everything that costs the account money: a call, a transfer, a message.
CREDENTIALS = {"twilioAccountSid": SANDBOX_ACCOUNT_SID, "twilioAuthToken": SANDBOX_AUTH_TOKEN}
GREETING = "Rosa's Kitchen, good evening. How can I help you?"
PROMPT = """\
You answer the phone of Rosa's Kitchen, a small Italian restaurant that also delivers.
Be warm and brief: one or two short sentences at a time.
Look up delivery orders and book tables with the tools. Never invent an order or a booking.
If the caller wants to talk to a person, put the call through to +12025550143.
When nothing is left to do, say goodbye and end the call."""

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "look_up_order",
        "description": "Find out where a delivery order is.",
        "parameters": {
            "type": "object",
            "properties": {
                "orderNumber": {"type": "string", "description": "Like A-1001, on the receipt."}
            },
            "required": ["orderNumber"],
        },
    },
    {
        "type": "function",
        "name": "book_table",
        "description": "Book a table for tonight.",
        "parameters": {
            "type": "object",
            "properties": {
                "guests": {"type": "integer", "minimum": 1, "maximum": 12},
                "time": {"type": "string", "description": "24-hour clock, like 19:30."},
            },
            "required": ["guests", "time"],
        },
    },
]
_ORDERS = {
    "A-1001": "is on its way and arrives in 12 minutes",
    "A-1002": "is in the oven",
    "A-1003": "was delivered at noon",
}


class UnknownTool(LookupError):
    pass


def configuration(call: Mapping[str, Any], tools_url: str) -> dict[str, Any]:
    """Return the configuration of the call."""
    return {
        **CREDENTIALS,
        "openaiApiKey": SANDBOX_OPENAI_KEY,
        "systemPrompt": PROMPT,
        "greeting": GREETING,
        "voice": "marin",
        "tools": TOOLS,
        "onToolCallUrl": tools_url,
        "builtinTools": ["end_call", "transfer_call", "send_dtmf"],
        "metadata": call.get("metadata") or {"restaurant": "Rosa's Kitchen"},
    }


def run_tool(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the result for the model; raise :class:`UnknownTool`."""
    match name:
        case "look_up_order":
            return _look_up_order(str(arguments.get("orderNumber", "")).upper())
        case "book_table":
            return f"A table for {arguments.get('guests')} at {arguments.get('time')} is booked."
    raise UnknownTool(name)


def _look_up_order(number: str) -> str:
    if status := _ORDERS.get(number):
        return f"Order {number} {status}."
    return f"There is no order {number}."


def with_script(prompt: str, script: str) -> str:
    """Return the prompt with a script for the sandbox's model.

    Raises ValueError if the script is not JSON.
    """
    return f"{prompt}\n\n```sandbox\n{json.dumps(json.loads(script))}\n```\n"
