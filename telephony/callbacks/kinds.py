"""The kinds of values in a backend's answer to onCallStart.

A kind reads a value or says what is wrong with it. It describes itself as JSON Schema for programs
and in words for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from core.schema import Json
from telephony.callback_urls import LONGEST_URL, callback_url_problem
from telephony.callbacks.payloads import METADATA_LIMITS, json_problem, metadata_problem
from telephony.callbacks.problems import Problems
from telephony.engine.bounds import DEEPEST, is_storable
from telephony.engine.plan import ACCOUNT_SID, E164, Tool
from telephony.model_hosts import host_problem
from telephony.numbering import call_problem
from telephony.twilio_rest import ACCOUNT_SID_RULE

_VISIBLE_ASCII = re.compile(r"[!-~]+")
# A text that XML can hold, as far as a regular expression of JavaScript's goes.
NO_CONTROL = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"


class Kind:
    """A kind of value. ``type`` is its type in the guide."""

    type: ClassVar[str] = "string"
    # Values that count as left out.
    empty: ClassVar[tuple[Any, ...]] = (None, "")

    def excess(self, value: Any) -> str:
        """Return why a value is too large to be read, from its size alone; ``""`` if it is not."""
        return ""

    def read(self, at: str, value: Any, problems: Problems) -> Any:
        """Return the value as the engine has it; None, and add a problem, if it is invalid."""
        if problem := self.problem(value):
            problems.add(at, problem)
            return None
        return value

    def problem(self, value: Any) -> str:
        """Return why a value is invalid, and what to do; ``""`` if it is valid."""
        raise NotImplementedError

    def refuse(self, at: str, value: Any, problems: Problems) -> None:
        """Add a problem for a valid value that this server does not allow."""

    def schema(self) -> Json:
        raise NotImplementedError

    def limits(self) -> str:
        """Return the limits in the schema, in words."""
        return ""

    def more_limits(self) -> str:
        """Return the limits that a schema cannot state, in words."""
        return ""


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Text that PostgreSQL and TwiML can hold, of at most so many characters."""

    most: int

    def problem(self, value: Any) -> str:
        if not isinstance(value, str):
            return "Use a string."
        if len(value) > self.most:
            return f"Use at most {self.most:,} characters."
        if not is_storable(value):
            return "Leave out control characters other than tabs and line breaks."
        return ""

    def schema(self) -> Json:
        return {"type": "string", "maxLength": self.most, "pattern": NO_CONTROL}

    def limits(self) -> str:
        return f"At most {self.most:,} characters."


@dataclass(frozen=True, slots=True)
class HeaderText(Kind):
    """Text that is sent in an HTTP header: no spaces, no line breaks."""

    most: int

    def problem(self, value: Any) -> str:
        if not (isinstance(value, str) and _VISIBLE_ASCII.fullmatch(value)):
            return "Use a string of visible ASCII characters, without spaces."
        return Text(self.most).problem(value)

    def schema(self) -> Json:
        return {
            "type": "string",
            "maxLength": self.most,
            "pattern": f"^{_VISIBLE_ASCII.pattern}$",
        }

    def limits(self) -> str:
        return f"At most {self.most:,} visible ASCII characters, without spaces."


@dataclass(frozen=True, slots=True)
class Pattern(Kind):
    """Text that matches a regular expression, which ``why`` and ``words`` put into words."""

    pattern: re.Pattern[str]
    why: str
    words: str = ""

    def problem(self, value: Any) -> str:
        return "" if isinstance(value, str) and self.pattern.fullmatch(value) else self.why

    def schema(self) -> Json:
        return {"type": "string", "pattern": f"^{self.pattern.pattern}$"}

    def limits(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class AccountSid(Pattern):
    """A Twilio Account SID."""

    pattern: re.Pattern[str] = ACCOUNT_SID
    why: str = ACCOUNT_SID_RULE
    words: str = "`AC` and 32 hexadecimal digits."


@dataclass(frozen=True, slots=True)
class PhoneNumber(Pattern):
    """A phone number in E.164 that may be called."""

    pattern: re.Pattern[str] = E164
    why: str = "Use E.164, like +15551234567."
    words: str = "E.164, like `+15551234567`."

    def refuse(self, at: str, value: Any, problems: Problems) -> None:
        if problem := call_problem(value):
            problems.add(at, problem.message)


@dataclass(frozen=True, slots=True)
class ModelHost(Pattern):
    """The base URL of an API like OpenAI's, at a host that this server allows."""

    type: ClassVar[str] = "URL"
    pattern: re.Pattern[str] = re.compile(
        r"https://[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,9}(?:/[A-Za-z0-9_-]{1,64}){0,5}/?"
    )
    why: str = (
        "Use an https:// URL in lowercase, such as https://resource.openai.azure.com/openai/v1."
    )

    def refuse(self, at: str, value: Any, problems: Problems) -> None:
        if problem := host_problem(value):
            problems.add(at, problem)


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    choices: tuple[str, ...]

    def problem(self, value: Any) -> str:
        return "" if value in self.choices else f"Use one of {', '.join(self.choices)}."

    def schema(self) -> Json:
        return {"type": "string", "enum": list(self.choices)}

    def limits(self) -> str:
        return f"One of {_list(self.choices)}."


@dataclass(frozen=True, slots=True)
class Whole(Kind):
    """A whole number."""

    type: ClassVar[str] = "integer"
    least: int
    most: int

    def problem(self, value: Any) -> str:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        is_fit = is_whole and self.least <= value <= self.most
        return "" if is_fit else f"Use a whole number from {self.least} to {self.most}."

    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def limits(self) -> str:
        return f"{self.least} to {self.most}."


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """``true``, which marks an answer as one of its kind."""

    type: ClassVar[str] = "boolean"

    def problem(self, value: Any) -> str:
        return "" if isinstance(value, bool) else "Use true or false."

    def schema(self) -> Json:
        return {"const": True}


class Switch(Kind):
    """Something that is on or off."""

    type: ClassVar[str] = "boolean"

    def problem(self, value: Any) -> str:
        return "" if isinstance(value, bool) else "Use true or false."

    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Url(Kind):
    """A URL that Switchhook, or Twilio, may request."""

    type: ClassVar[str] = "URL"

    def problem(self, value: Any) -> str:
        return "" if _is_web_url(value) else "Use an https:// URL."

    def refuse(self, at: str, value: Any, problems: Problems) -> None:
        if callback_url_problem(value):
            problems.add(at, "Use a public https:// URL.")

    def schema(self) -> Json:
        return {"type": "string", "format": "uri", "maxLength": LONGEST_URL}


@dataclass(frozen=True, slots=True)
class ListOf(Kind):
    """A list of ``least`` to ``most`` items of one kind. ``too_few`` is the error for fewer."""

    type: ClassVar[str] = "list"
    items: Kind
    most: int
    least: int = 0
    too_few: str = ""

    def excess(self, value: Any) -> str:
        return _too_many(value, self.most)

    def read(self, at: str, value: Any, problems: Problems) -> Any:
        if not isinstance(value, list):
            problems.add(at, "Use a list.")
            return None
        if len(value) < self.least:
            problems.add(at, self.too_few)
        for index, item in enumerate(value):
            self.items.read(f"{at}.{index}", item, problems)
        return tuple(dict.fromkeys(item for item in value if isinstance(item, str)))

    def refuse(self, at: str, value: Any, problems: Problems) -> None:
        for index, item in enumerate(value):
            self.items.refuse(f"{at}.{index}", item, problems)

    def schema(self) -> Json:
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.items.schema(), **least, "maxItems": self.most}

    def limits(self) -> str:
        match self.items:
            case Choice(choices=choices):
                return f"Any of {_list(choices)}."
            case _:
                return f"{self.least} to {self.most} of them. {self.items.limits()}"


@dataclass(frozen=True, slots=True)
class OneOrMany(Kind):
    """An item, or a list of such items in order of preference. Both are read as a tuple of some."""

    type: ClassVar[str] = "string or list"
    many: ListOf

    def excess(self, value: Any) -> str:
        return self.many.excess(value)

    def read(self, at: str, value: Any, problems: Problems) -> Any:
        if isinstance(value, list):
            return self.many.read(at, value, problems) or None
        item = self.many.items.read(at, value, problems)
        return None if item is None else (item,)

    def schema(self) -> Json:
        return {"anyOf": [self.many.items.schema(), self.many.schema()]}

    def limits(self) -> str:
        return (
            f"{self.many.items.limits()} Or a list of {self.many.least} to {self.many.most} of "
            "them, in order of preference."
        )


@dataclass(frozen=True, slots=True)
class Tools(Kind):
    """Function definitions as OpenAI takes them, flat or nested under ``function``."""

    type: ClassVar[str] = "list"
    # OpenAI's rule for the name of a function.
    name: ClassVar[Kind] = Pattern(
        re.compile(r"[A-Za-z0-9_-]{1,64}"), "Use 1 to 64 letters, digits, underscores and dashes."
    )
    description: ClassVar[Kind] = Text(4_096)
    most: int
    most_bytes: int

    def excess(self, value: Any) -> str:
        if too_many := _too_many(value, self.most):
            return too_many
        return json_problem(value, most=self.most_bytes) or ""

    def read(self, at: str, value: Any, problems: Problems) -> Any:
        if not isinstance(value, list):
            problems.add(at, "Use a list.")
            return None
        tools: dict[str, Tool] = {}
        for index, entry in enumerate(value):
            tool = self._tool(f"{at}.{index}", entry, problems)
            if tool and tools.setdefault(tool.name, tool) is not tool:
                problems.add(at, f"{tool.name} is defined more than once.")
        return tuple(tools.values())

    def schema(self) -> Json:
        items = {"$ref": "#/components/schemas/Tool"}
        return {"type": "array", "items": items, "maxItems": self.most}

    def limits(self) -> str:
        return f"At most {self.most} of them."

    def more_limits(self) -> str:
        return (
            f"All together at most {self.most_bytes // 1024} KB of JSON, nested at most "
            f"{DEEPEST} deep."
        )

    def _tool(self, at: str, entry: Any, problems: Problems) -> Tool | None:
        if isinstance(entry, Mapping) and isinstance(entry.get("function"), Mapping):
            entry = entry["function"]
        if not isinstance(entry, Mapping):
            problems.add(at, "Use an OpenAI function definition.")
            return None
        name = entry.get("name")
        description = entry.get("description") or ""
        parameters = entry.get("parameters") or {"type": "object", "properties": {}}
        if problem := self.name.problem(name):
            problems.add(f"{at}.name", problem)
        elif problem := self.description.problem(description):
            problems.add(f"{at}.description", problem)
        elif not isinstance(parameters, Mapping):
            problems.add(f"{at}.parameters", "Use a JSON schema.")
        else:
            return Tool(str(name), description, dict(parameters))
        return None


@dataclass(frozen=True, slots=True)
class Metadata(Kind):
    """Any JSON that can be stored and sent back."""

    type: ClassVar[str] = "any JSON"
    empty: ClassVar[tuple[Any, ...]] = (None,)

    def excess(self, value: Any) -> str:
        return metadata_problem(value) or ""

    def problem(self, value: Any) -> str:
        return ""

    def schema(self) -> Json:
        return {}

    def more_limits(self) -> str:
        return METADATA_LIMITS


def _too_many(value: Any, most: int) -> str:
    if isinstance(value, list) and len(value) > most:
        return f"Use at most {most} entries: there are {len(value):,}."
    return ""


def _is_web_url(value: Any) -> bool:
    """Return True for an absolute http(s) URL, whatever its host."""
    if not isinstance(value, str) or len(value) > LONGEST_URL:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
