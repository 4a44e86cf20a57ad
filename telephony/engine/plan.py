"""The outcomes of onCallStart: a plan for the call, a rejection or a transfer.

``telephony.callbacks.configuration`` defines how a backend names the fields, and their limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, Literal

from telephony.engine.models import DEFAULT_MODEL

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
LONGEST_AUTH_TOKEN = 128
# Twilio's <Say> takes 4 KB.
LONGEST_SPOKEN = 4_000
# Seconds. Twilio ends a call after four hours, and a greeting may be played before this begins.
LONGEST_CALL_S = 14_100
# Nobody talks to a browser for longer, and an engine that exits has to wait for test calls.
LONGEST_TEST_CALL_S = 3_300


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """The configuration of one call. ``repr`` omits credentials, since a plan may be logged."""

    twilio_account_sid: str
    twilio_auth_token: str = field(repr=False)
    openai_api_key: str = field(repr=False)
    system_prompt: str = field(repr=False)
    # Where the model is; OpenAI's own API if empty.
    openai_base_url: str = ""
    on_tool_call_url: str = ""
    tools: tuple[Tool, ...] = ()
    builtin_tools: tuple[str, ...] = ()
    # The only numbers that transfer_call may dial; empty if it may dial any.
    transfer_numbers: tuple[str, ...] = ()
    voice: str = "marin"
    model: str = DEFAULT_MODEL
    # What follows if the model cannot be reached or refuses the call, in order of preference.
    fallback_models: tuple[str, ...] = ()
    # How much the model reasons; the model's default if empty.
    reasoning_effort: str = ""
    # The most that a response has; None for no limit.
    max_output_tokens: int | None = None
    vad_eagerness: str = "high"
    noise_reduction: str = "near_field"
    inactivity_timeout_ms: int = 60_000
    # A call that nobody ends costs this much at most: longer ones are asked for.
    max_duration_seconds: int = 3_300
    greeting_url: str = ""
    greeting: str = ""
    # Whether the audio of the greeting is kept, for other calls of the account.
    greeting_cache: bool = False
    metadata: Any = None
    # Never set by a backend: in a test call the customer uses a browser instead of Twilio.
    is_test: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """The models in order of preference."""
        return self.model, *self.fallback_models

    def as_test(self) -> CallPlan:
        """Return the plan of a test call."""
        longest = min(self.max_duration_seconds, LONGEST_TEST_CALL_S)
        return replace(self, is_test=True, max_duration_seconds=longest)

    def with_next_model(self) -> CallPlan | None:
        """Return the plan without its first model; None if there is no other."""
        if not self.fallback_models:
            return None
        return replace(
            self, model=self.fallback_models[0], fallback_models=self.fallback_models[1:]
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reject the call: without answering it, or after speaking ``message``.

    The credentials verify the signature of Twilio's request. They are needed only with a message:
    to speak costs the account money, to reject does not.
    """

    reason: Literal["busy", "rejected"] = "rejected"
    message: str = ""
    twilio_account_sid: str = ""
    twilio_auth_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Transfer the call to another number, in E.164, without a model.

    The credentials verify the signature of Twilio's request.
    """

    to: str
    twilio_account_sid: str
    twilio_auth_token: str = field(repr=False)


def sid_ending(sid: str) -> str:
    """Return an Account SID without its middle: ``AC…89ab``.

    Enough to tell accounts apart in a message that a backend logs. The sender of a webhook may name
    any account, and its SID is none of the customer's business.
    """
    return f"{sid[:2]}…{sid[-4:]}"


def is_phone_number(text: str) -> bool:
    """Return True if the text is a number in E.164."""
    return E164.fullmatch(text) is not None


def plan_as_dict(plan: CallPlan) -> dict[str, Any]:
    """Return the plan as JSON types, credentials included, for sealing."""
    return asdict(plan)


def plan_from_dict(data: Mapping[str, Any]) -> CallPlan:
    """Return the plan from the output of :func:`plan_as_dict`, of this version or another.

    Ignores unknown fields, and gives missing ones their default. Raises :class:`TypeError` if a
    required field is missing.
    """
    tools = [Tool(**_known(Tool, tool)) for tool in data.get("tools", ())]
    return CallPlan(**_known(CallPlan, {**data, "tools": tools}))


def _known(kind: type[Tool | CallPlan], data: Mapping[str, Any]) -> dict[str, Any]:
    known = (each for each in fields(kind) if each.name in data)
    return {each.name: _restored(each, data[each.name]) for each in known}


def _restored(field: Field[Any], value: Any) -> Any:
    """Return the original value: JSON has no tuples."""
    return tuple(value) if isinstance(field.default, tuple) else value
