"""The built-in tools: Switchhook runs them itself."""

from __future__ import annotations

from dataclasses import replace

from telephony.engine.plan import CallPlan, Tool

# Those that a plan may allow, by name.
BUILTIN_TOOLS = {
    "end_call": Tool(
        "end_call",
        "Hang up. Say goodbye first: the call ends when the caller has heard what you said.",
        {"type": "object", "properties": {}},
    ),
    "transfer_call": Tool(
        "transfer_call",
        "Put the caller through to another phone number, which ends your part of the call. Tell "
        "the caller first.",
        {
            "type": "object",
            "properties": {
                "to": {"type": "string", "description": "The number in E.164: +15551234567."}
            },
            "required": ["to"],
        },
    ),
    "send_dtmf": Tool(
        "send_dtmf",
        "Press keys on the phone's keypad, for example to get through another phone menu.",
        {
            "type": "object",
            "properties": {
                "digits": {
                    "type": "string",
                    "description": "0-9, *, #, A-D; w waits half a second.",
                }
            },
            "required": ["digits"],
        },
    ),
}


def offered_tools(plan: CallPlan) -> tuple[Tool, ...]:
    """Return the tools that the model may call: the customer's, then the built-in ones."""
    return (*plan.tools, *(_builtin(name, plan) for name in plan.builtin_tools))


def _builtin(name: str, plan: CallPlan) -> Tool:
    tool = BUILTIN_TOOLS[name]
    if name != "transfer_call" or not plan.transfer_numbers:
        return tool
    to = {"type": "string", "enum": list(plan.transfer_numbers)}
    return replace(tool, parameters={**tool.parameters, "properties": {"to": to}})
