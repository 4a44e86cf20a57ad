"""What becomes of a call: a plan, a refusal or a transfer.

How a customer's backend names and may fill the fields: ``telephony.callbacks.configuration``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, Literal

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
LONGEST_AUTH_TOKEN = 128
# Twilio's <Say> takes 4 KB.
LONGEST_SPOKEN = 4_000


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How to handle one call. Credentials stay out of ``repr``: a plan may end up in a log."""

    twilio_account_sid: str
    twilio_auth_token: str = field(repr=False)
    openai_api_key: str = field(repr=False)
    system_prompt: str = field(repr=False)
    on_tool_call_url: str = ""
    tools: tuple[Tool, ...] = ()
    builtin_tools: tuple[str, ...] = ()
    # The only numbers that transfer_call may dial; empty if the model may name any.
    transfer_numbers: tuple[str, ...] = ()
    voice: str = "marin"
    model: str = "gpt-realtime-1.5"
    vad_eagerness: str = "high"
    noise_reduction: str = "near_field"
    inactivity_timeout_ms: int = 60_000
    # OpenAI ends a realtime session after 60 minutes without warning: stop five minutes earlier.
    max_duration_seconds: int = 3_300
    greeting_url: str = ""
    greeting: str = ""
    metadata: Any = None
    # Never from an answer: the customer talks to the agent from a browser, not over Twilio.
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The call is not taken: rejected unanswered, or answered to speak ``message``.

    The credentials are those that Twilio's request must be signed with, and there only with a
    message: to speak costs the account money, to reject does not.
    """

    reason: Literal["busy", "rejected"] = "rejected"
    message: str = ""
    twilio_account_sid: str = ""
    twilio_auth_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Transfer:
    """The call is put through to another number, in E.164, without a model.

    The credentials are those that Twilio's request must be signed with.
    """

    to: str
    twilio_account_sid: str
    twilio_auth_token: str = field(repr=False)


def is_phone_number(text: str) -> bool:
    """Whether the text is a number in E.164."""
    return E164.fullmatch(text) is not None


def plan_as_dict(plan: CallPlan) -> dict[str, Any]:
    """Return the plan as JSON types, credentials included, for sealing."""
    return asdict(plan)


def plan_from_dict(data: Mapping[str, Any]) -> CallPlan:
    """Return the plan that :func:`plan_as_dict` took apart, in this version of the code or another.

    What it does not know is left out, and what is not there has its default. Raises
    :class:`TypeError` if there is none.
    """
    tools = [Tool(**_known(Tool, tool)) for tool in data.get("tools", ())]
    return CallPlan(**_known(CallPlan, {**data, "tools": tools}))


def _known(kind: type[Tool | CallPlan], data: Mapping[str, Any]) -> dict[str, Any]:
    known = (each for each in fields(kind) if each.name in data)
    return {each.name: _restored(each, data[each.name]) for each in known}


def _restored(field: Field[Any], value: Any) -> Any:
    """Return a value as it was: JSON has no tuples."""
    return tuple(value) if isinstance(field.default, tuple) else value
