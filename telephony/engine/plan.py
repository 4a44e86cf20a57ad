"""What a customer's backend answers to onCallStart: a plan, a refusal or a transfer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast

from telephony.engine.bounds import DEEPEST, is_deeper_than
from telephony.engine.plan_reader import PlanError as PlanError
from telephony.engine.plan_reader import Problems, Reader, text_problem

VOICES = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)
EAGERNESS = ("low", "medium", "high", "auto")
NOISE_REDUCTION = ("near_field", "far_field")
BUILTIN_TOOLS = ("end_call", "transfer_call", "send_dtmf")
REJECT_REASONS = ("busy", "rejected")

DEFAULT_VOICE = "marin"
DEFAULT_MODEL = "gpt-realtime-1.5"
DEFAULT_INACTIVITY_MS = 60_000
# OpenAI ends a realtime session after 60 minutes without warning: stop five minutes earlier.
DEFAULT_MAX_DURATION_S = 3_300
LONGEST_DURATION_S = 3_540

MOST_FIELDS = 256
MOST_TOOLS = 128
MOST_TRANSFER_NUMBERS = 100
# OpenAI takes 16,384 tokens of instructions and tools, which are some four characters each.
LONGEST_PROMPT = 65_536
# Twilio's <Say> takes 4 KB.
LONGEST_SPOKEN = 4_000
LONGEST_DESCRIPTION = 4_096
LONGEST_API_KEY = 512

_MOST_ENTRIES = {
    "tools": MOST_TOOLS,
    "builtinTools": len(BUILTIN_TOOLS),
    "transferNumbers": MOST_TRANSFER_NUMBERS,
}
_MODEL = re.compile(r"gpt-realtime[A-Za-z0-9._-]{0,88}")
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_USE_E164 = "Use E.164, like +15551234567."
# OpenAI's rule for the name of a function.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
    voice: str = DEFAULT_VOICE
    model: str = DEFAULT_MODEL
    vad_eagerness: str = "high"
    noise_reduction: str = "near_field"
    inactivity_timeout_ms: int = DEFAULT_INACTIVITY_MS
    max_duration_seconds: int = DEFAULT_MAX_DURATION_S
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


def parse_plan(body: object) -> CallPlan | Refusal | Transfer:
    """Read a decoded JSON answer; raise :class:`PlanError` with every field that is wrong.

    Unknown fields are ignored, and ``null`` counts as absent.
    """
    if not isinstance(body, Mapping):
        raise PlanError({"body": ["Answer with a JSON object."]})
    refuse_too_many(body)
    _refuse_too_deep(body)
    reader = Reader(body)
    result: CallPlan | Refusal | Transfer
    if body.get("reject"):
        result = _refusal(reader)
    elif body.get("transfer") is not None:
        result = _transfer(reader)
    else:
        result = _call_plan(reader)
    reader.problems.require_none()
    return result


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
    lists = {name: tuple(data.get(name, ())) for name in ("builtin_tools", "transfer_numbers")}
    tools = tuple(Tool(**_known(Tool, tool)) for tool in data.get("tools", ()))
    return CallPlan(**{**_known(CallPlan, data), "tools": tools, **lists})


def _known(kind: type[Tool | CallPlan], data: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: data[each.name] for each in fields(kind) if each.name in data}


def refuse_too_many(body: Mapping[str, Any]) -> None:
    """Raise :class:`PlanError` for what is too long for a look at each entry."""
    problems = Problems()
    if len(body) > MOST_FIELDS:
        problems.add("body", f"Use at most {MOST_FIELDS} fields: there are {len(body):,}.")
    for name, most in _MOST_ENTRIES.items():
        if isinstance(entries := body.get(name), list) and len(entries) > most:
            problems.add(name, f"Use at most {most} entries: there are {len(entries):,}.")
    problems.require_none()


def _refuse_too_deep(body: Mapping[str, Any]) -> None:
    problems = Problems()
    for name in ("tools", "metadata"):  # of which more is kept than texts and numbers
        if is_deeper_than(body.get(name)):
            problems.add(name, f"Nest lists and objects at most {DEEPEST} deep.")
    problems.require_none()


def _refusal(reader: Reader) -> Refusal:
    reader.boolean("reject")
    reason = cast(Any, reader.choice("reason", REJECT_REASONS, "rejected"))
    if not (message := reader.text("message", most=LONGEST_SPOKEN)):
        return Refusal(reason)
    account_sid, auth_token = reader.credentials(needed_for="A message that is spoken")
    return Refusal(reason, message, account_sid, auth_token)


def _transfer(reader: Reader) -> Transfer:
    to = reader.matching("transfer", E164, _USE_E164)
    return Transfer(to, *reader.credentials(needed_for="A transfer"))


def _call_plan(reader: Reader) -> CallPlan:
    tools = _tools(reader)
    account_sid, auth_token = reader.credentials()
    plan = CallPlan(
        twilio_account_sid=account_sid,
        twilio_auth_token=auth_token,
        openai_api_key=reader.header_value("openaiApiKey", most=LONGEST_API_KEY),
        system_prompt=reader.text("systemPrompt", most=LONGEST_PROMPT, required=True),
        on_tool_call_url=reader.url("onToolCallUrl", required=bool(tools)),
        tools=tools,
        builtin_tools=_builtin_tools(reader),
        transfer_numbers=_transfer_numbers(reader),
        voice=reader.choice("voice", VOICES, DEFAULT_VOICE),
        model=reader.matching(
            "model", _MODEL, "Use the name of a gpt-realtime model.", default=DEFAULT_MODEL
        ),
        vad_eagerness=reader.choice("vadEagerness", EAGERNESS, "high"),
        noise_reduction=reader.choice("noiseReduction", NOISE_REDUCTION, "near_field"),
        inactivity_timeout_ms=reader.integer(
            "inactivityTimeoutMs", DEFAULT_INACTIVITY_MS, least=1_000, most=3_600_000
        ),
        max_duration_seconds=reader.integer(
            "maxDurationSeconds", DEFAULT_MAX_DURATION_S, least=1, most=LONGEST_DURATION_S
        ),
        greeting_url=reader.url("greetingUrl"),
        greeting=reader.text("greeting", most=LONGEST_SPOKEN),
        metadata=reader.body.get("metadata"),
    )
    taken = {tool.name for tool in tools} & set(plan.builtin_tools)
    for name in sorted(taken):
        reader.problems.add("tools", f"{name} is also in builtinTools: rename yours.")
    return plan


def _tools(reader: Reader) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for index, entry in enumerate(reader.entries("tools")):
        tool = _tool(reader, f"tools.{index}", entry)
        if tool and tools.setdefault(tool.name, tool) is not tool:
            reader.problems.add("tools", f"{tool.name} is there more than once.")
    return tuple(tools.values())


def _tool(reader: Reader, path: str, entry: Any) -> Tool | None:
    if isinstance(entry, Mapping) and isinstance(entry.get("function"), Mapping):
        entry = entry["function"]
    if not isinstance(entry, Mapping):
        reader.problems.add(path, "Use an OpenAI function definition.")
        return None
    name = entry.get("name")
    description = entry.get("description") or ""
    parameters = entry.get("parameters") or {"type": "object", "properties": {}}
    if not (isinstance(name, str) and _TOOL_NAME.fullmatch(name)):
        reader.problems.add(f"{path}.name", "Use 1 to 64 letters, digits, underscores and dashes.")
    elif problem := text_problem(description, LONGEST_DESCRIPTION):
        reader.problems.add(f"{path}.description", problem)
    elif not isinstance(parameters, Mapping):
        reader.problems.add(f"{path}.parameters", "Use a JSON schema.")
    else:
        return Tool(name, description, dict(parameters))
    return None


def _builtin_tools(reader: Reader) -> tuple[str, ...]:
    names = reader.entries("builtinTools")
    for index, name in enumerate(names):
        if name not in BUILTIN_TOOLS:
            reader.problems.add(f"builtinTools.{index}", f"Use one of {', '.join(BUILTIN_TOOLS)}.")
    return tuple(name for name in BUILTIN_TOOLS if name in names)


def _transfer_numbers(reader: Reader) -> tuple[str, ...]:
    numbers = reader.entries("transferNumbers")
    if reader.body.get("transferNumbers") == []:
        reader.problems.add(
            "transferNumbers", "Name a number, or leave transfer_call out of builtinTools."
        )
    for index, number in enumerate(numbers):
        if not (isinstance(number, str) and is_phone_number(number)):
            reader.problems.add(f"transferNumbers.{index}", _USE_E164)
    return tuple(dict.fromkeys(number for number in numbers if isinstance(number, str)))
