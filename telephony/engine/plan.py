"""What a customer's backend answers to onCallStart: a plan, a refusal or a transfer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

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

_MODEL = re.compile(r"gpt-realtime[A-Za-z0-9._-]*")
_ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
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


class PlanError(ValueError):
    """The answer cannot be used; ``fields`` names what is wrong with which field."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self.fields = dict(fields)
        super().__init__("; ".join(f"{name}: {' '.join(why)}" for name, why in fields.items()))


def parse_plan(body: object) -> CallPlan | Refusal | Transfer:
    """Read a decoded JSON answer; raise :class:`PlanError` with every field that is wrong.

    Unknown fields are ignored, and ``null`` counts as absent.
    """
    if not isinstance(body, Mapping):
        raise PlanError({"body": ["Answer with a JSON object."]})
    reader = _Reader(body)
    result: CallPlan | Refusal | Transfer
    if body.get("reject"):
        result = _refusal(reader)
    elif body.get("transfer") is not None:
        result = _transfer(reader)
    else:
        result = _call_plan(reader)
    if reader.errors:
        raise PlanError(reader.errors)
    return result


def is_phone_number(text: str) -> bool:
    """Whether the text is a number in E.164."""
    return _E164.fullmatch(text) is not None


def plan_as_dict(plan: CallPlan) -> dict[str, Any]:
    """Return the plan as JSON types, credentials included, for sealing."""
    return asdict(plan)


def plan_from_dict(data: Mapping[str, Any]) -> CallPlan:
    """Return the plan that :func:`plan_as_dict` took apart."""
    tools = tuple(Tool(**tool) for tool in data["tools"])
    return CallPlan(**{**data, "tools": tools, "builtin_tools": tuple(data["builtin_tools"])})


def _refusal(reader: _Reader) -> Refusal:
    reader.boolean("reject")
    reason = cast(Any, reader.choice("reason", REJECT_REASONS, "rejected"))
    if not (message := reader.text("message")):
        return Refusal(reason)
    account_sid, auth_token = reader.credentials(needed_for="A message that is spoken")
    return Refusal(reason, message, account_sid, auth_token)


def _transfer(reader: _Reader) -> Transfer:
    to = reader.matching("transfer", _E164, "Use E.164, like +15551234567.")
    return Transfer(to, *reader.credentials(needed_for="A transfer"))


def _call_plan(reader: _Reader) -> CallPlan:
    tools = reader.tools()
    account_sid, auth_token = reader.credentials()
    plan = CallPlan(
        twilio_account_sid=account_sid,
        twilio_auth_token=auth_token,
        openai_api_key=reader.header_value("openaiApiKey"),
        system_prompt=reader.text("systemPrompt", required=True),
        on_tool_call_url=reader.url("onToolCallUrl", required=bool(tools)),
        tools=tools,
        builtin_tools=reader.builtin_tools(),
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
        greeting=reader.text("greeting"),
        metadata=reader.body.get("metadata"),
    )
    taken = {tool.name for tool in tools} & set(plan.builtin_tools)
    for name in sorted(taken):
        reader.refuse("tools", f"{name} is also in builtinTools: rename yours.")
    return plan


T = TypeVar("T")


class _Reader:
    """Reads one field after the other and collects what is wrong with them."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.errors: dict[str, list[str]] = {}

    def refuse(self, name: str, why: str) -> None:
        self.errors.setdefault(name, []).append(why)

    def _read(
        self,
        name: str,
        default: T,
        accepts: Callable[[Any], bool],
        why: str,
        *,
        required: bool,
        missing: str = "",
    ) -> T:
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                self.refuse(name, missing or "This field is required.")
            return default
        if not accepts(value):
            self.refuse(name, why)
            return default
        return cast(T, value)

    def text(self, name: str, *, required: bool = False, missing: str = "") -> str:
        return self._read(
            name,
            "",
            lambda value: isinstance(value, str),
            "Use a string.",
            required=required,
            missing=missing,
        )

    def credentials(self, *, needed_for: str = "") -> tuple[str, str]:
        """Read the Account SID and the auth token that Twilio's request must be signed with."""
        why = f"{needed_for} is paid by your Twilio account. " if needed_for else ""
        account_sid = self.matching(
            "twilioAccountSid",
            _ACCOUNT_SID,
            "Use the Account SID: AC and 32 hex digits.",
            missing=why and f"{why}Name the account that the call comes from.",
        )
        auth_token = self.text(
            "twilioAuthToken",
            missing=why and f"{why}Add the auth token that its requests are signed with.",
            required=True,
        )
        return account_sid, auth_token

    def header_value(self, name: str) -> str:
        """A required string that is sent in an HTTP header: no spaces, no line breaks."""
        return self._read(
            name,
            "",
            lambda value: (
                isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) is not None
            ),
            "Use a string without spaces.",
            required=True,
        )

    def boolean(self, name: str) -> bool:
        return self._read(
            name, False, lambda value: isinstance(value, bool), "Use true or false.", required=False
        )

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        return self._read(
            name,
            default,
            lambda value: (
                isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
            ),
            f"Use a whole number from {least} to {most}.",
            required=False,
        )

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        return self._read(
            name, default, choices.__contains__, f"Use one of {', '.join(choices)}.", required=False
        )

    def matching(
        self,
        name: str,
        pattern: re.Pattern[str],
        why: str,
        *,
        default: str | None = None,
        missing: str = "",
    ) -> str:
        return self._read(
            name,
            default or "",
            lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None,
            why,
            required=default is None,
            missing=missing,
        )

    def url(self, name: str, *, required: bool = False) -> str:
        return self._read(name, "", _is_web_url, "Use an https:// URL.", required=required)

    def tools(self) -> tuple[Tool, ...]:
        entries: list[Any] = self._read(
            "tools", [], lambda value: isinstance(value, list), "Use a list.", required=False
        )
        tools: list[Tool] = []
        for index, entry in enumerate(entries):
            if tool := self._tool(f"tools.{index}", entry):
                tools.append(tool)
        names = [tool.name for tool in tools]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.refuse("tools", f"{name} is there more than once.")
        return tuple(tools)

    def _tool(self, path: str, entry: Any) -> Tool | None:
        if isinstance(entry, Mapping) and isinstance(entry.get("function"), Mapping):
            entry = entry["function"]
        if not isinstance(entry, Mapping):
            self.refuse(path, "Use an OpenAI function definition.")
            return None
        name = entry.get("name")
        description = entry.get("description") or ""
        parameters = entry.get("parameters") or {"type": "object", "properties": {}}
        if not (isinstance(name, str) and _TOOL_NAME.fullmatch(name)):
            self.refuse(f"{path}.name", "Use 1 to 64 letters, digits, underscores and dashes.")
        elif not isinstance(description, str):
            self.refuse(f"{path}.description", "Use a string.")
        elif not isinstance(parameters, Mapping):
            self.refuse(f"{path}.parameters", "Use a JSON schema.")
        else:
            return Tool(name, description, dict(parameters))
        return None

    def builtin_tools(self) -> tuple[str, ...]:
        names: list[Any] = self._read(
            "builtinTools", [], lambda value: isinstance(value, list), "Use a list.", required=False
        )
        for index, name in enumerate(names):
            if name not in BUILTIN_TOOLS:
                self.refuse(f"builtinTools.{index}", f"Use one of {', '.join(BUILTIN_TOOLS)}.")
        return tuple(name for name in BUILTIN_TOOLS if name in names)


def _is_web_url(value: Any) -> bool:
    """Whether the text is an absolute http(s) URL; which hosts may be called is no matter here."""
    if not isinstance(value, str) or len(value) > 2000:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
