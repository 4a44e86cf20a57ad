"""Checks JSON values against a description, with OpenAI's errors.

Every ``check(value, path)`` returns nothing, or raises :class:`ClientError` with the invalid path
in ``param``. A ``null`` field counts as absent unless it is required.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox.model.errors import ClientError


class Spec(Protocol):
    def check(self, value: Any, path: str) -> None: ...


@dataclass(frozen=True)
class Text:
    longest: int | None = None
    pattern: str = ""

    def check(self, value: Any, path: str) -> None:
        _expect(value, str, "a string", path)
        if self.longest is not None and len(value) > self.longest:
            raise ClientError(
                f"Invalid '{path}': string too long. Expected a string with maximum length "
                f"{self.longest}, but got a string with length {len(value)} instead.",
                code="string_above_max_length",
                param=path,
            )
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise ClientError(
                f"Invalid '{path}': string does not match pattern. "
                f"Expected a string that matches the pattern '^{self.pattern}$'.",
                param=path,
            )


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...]

    def check(self, value: Any, path: str) -> None:
        if value not in self.values:
            raise invalid_choice(value, self.values, path)


@dataclass(frozen=True)
class Flag:
    def check(self, value: Any, path: str) -> None:
        _expect(value, bool, "a boolean", path)


@dataclass(frozen=True)
class Number:
    least: float
    most: float
    whole: bool = True

    def check(self, value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            raise _invalid_type(value, f"a{'n' if self.whole else ''} {self._kind}", path)
        if value < self.least:
            raise self._out_of_range(value, path, "below", "min", f">= {self.least}")
        if value > self.most:
            raise self._out_of_range(value, path, "above", "max", f"<= {self.most}")

    @property
    def _kind(self) -> str:
        return "integer" if self.whole else "decimal"

    def _out_of_range(
        self, value: float, path: str, side: str, bound: str, expected: str
    ) -> ClientError:
        return ClientError(
            f"Invalid '{path}': {self._kind} {side} {bound}imum value. "
            f"Expected a value {expected}, but got {value} instead.",
            code=f"{self._kind}_{side}_{bound}_value",
            param=path,
        )


@dataclass(frozen=True)
class ListOf:
    entry: Spec
    may_be_empty: bool = True
    longest: int | None = None

    def check(self, value: Any, path: str) -> None:
        _expect(value, list, "an array", path)
        if not (value or self.may_be_empty):
            raise ClientError(
                f"Invalid '{path}': empty array. Expected an array with minimum length 1, "
                "but got an empty array instead.",
                code="empty_array",
                param=path,
            )
        if self.longest is not None and len(value) > self.longest:
            raise ClientError(
                f"Invalid '{path}': array too long. Expected an array with maximum length "
                f"{self.longest}, but got an array with length {len(value)} instead.",
                code="array_above_max_length",
                param=path,
            )
        for index, entry in enumerate(value):
            self.entry.check(entry, f"{path}[{index}]")


@dataclass(frozen=True)
class Fields:
    """An object with these fields and no others; null is not absent for those in ``present``."""

    fields: Mapping[str, Spec]
    required: tuple[str, ...] = ()
    present: tuple[str, ...] = ()

    def check(self, value: Any, path: str) -> None:
        _expect(value, dict, "an object", path)
        prefix = f"{path}." if path else ""
        for name in self.required:
            if value.get(name) is None:
                raise missing(prefix + name)
        for name in self.present:
            if name not in value:
                raise missing(prefix + name)
        for name, entry in value.items():
            if name not in self.fields:
                raise ClientError(
                    f"Unknown parameter: '{prefix}{name}'.",
                    code="unknown_parameter",
                    param=prefix + name,
                )
            if entry is not None:
                self.fields[name].check(entry, prefix + name)


@dataclass(frozen=True)
class AnyObject:
    def check(self, value: Any, path: str) -> None:
        _expect(value, dict, "an object", path)


@dataclass(frozen=True)
class Function(Fields):
    """A function tool, whose parameters are the JSON Schema of an object."""

    def check(self, value: Any, path: str) -> None:
        super().check(value, path)
        kind = (value.get("parameters") or {}).get("type", "object")
        if kind != "object":
            raise ClientError(
                f"Invalid schema for function '{value['name']}': schema must be a JSON Schema of "
                f"'type: \"object\"', got 'type: \"{kind}\"'.",
                code="invalid_function_parameters",
                param=f"{path}.parameters",
            )


@dataclass(frozen=True)
class MapOf:
    """An object with any fields, all of one kind."""

    entry: Spec

    def check(self, value: Any, path: str) -> None:
        _expect(value, dict, "an object", path)
        for name, entry in value.items():
            self.entry.check(entry, f"{path}.{name}")


@dataclass(frozen=True)
class Tagged:
    """An object whose field ``tag`` selects the description."""

    tag: str
    variants: Mapping[str, Spec]

    def check(self, value: Any, path: str) -> None:
        _expect(value, dict, "an object", path)
        tag = value.get(self.tag)
        if tag is None:
            raise missing(f"{path}.{self.tag}")
        if not isinstance(tag, str) or tag not in self.variants:
            raise invalid_choice(tag, self.variants, f"{path}.{self.tag}")
        self.variants[tag].check(value, path)


@dataclass(frozen=True)
class ByType:
    """A value of several JSON types, each with its own description."""

    text: Spec | None = None
    object: Spec | None = None
    number: Spec | None = None

    def check(self, value: Any, path: str) -> None:
        match value:
            case str() if self.text:
                self.text.check(value, path)
            case dict() if self.object:
                self.object.check(value, path)
            case int() if self.number:
                self.number.check(value, path)
            case _:
                names = {"a string": self.text, "an object": self.object, "an integer": self.number}
                expected = " or ".join(name for name, spec in names.items() if spec)
                raise _invalid_type(value, expected, path)


def client_event(
    required: tuple[str, ...] = (), present: tuple[str, ...] = (), **fields: Spec
) -> Fields:
    """Return the description of a client event; its type and id come by themselves."""
    common: dict[str, Spec] = {"type": Text(), "event_id": Text(longest=512)}
    return Fields({**common, **fields}, required, present)


def check_one_of(event: dict[str, Any], events: Mapping[str, Fields]) -> str:
    """Return the event's type; raise :class:`ClientError` unless it is one of these events."""
    kind = event.get("type")
    if kind is None:
        raise missing("type")
    if not isinstance(kind, str) or kind not in events:
        raise invalid_choice(kind, events, "type")
    events[kind].check(event, "")
    return kind


def missing(path: str) -> ClientError:
    return ClientError(
        f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path
    )


def invalid_choice(value: Any, choices: Iterable[str], path: str) -> ClientError:
    return ClientError(
        f"Invalid value: '{value}'. Supported values are: {_enumeration(list(choices))}.",
        param=path,
    )


def _enumeration(names: list[str]) -> str:
    *most, last = [f"'{name}'" for name in names]
    match most:
        case []:
            return last
        case [first]:
            return f"{first} and {last}"
    return f"{', '.join(most)}, and {last}"


def _expect(value: Any, kind: type, expected: str, path: str) -> None:
    if not isinstance(value, kind):
        raise _invalid_type(value, expected, path)


def _invalid_type(value: Any, expected: str, path: str) -> ClientError:
    return ClientError(
        f"Invalid type for '{path}': expected {expected}, but got {_kind(value)} instead.",
        code="invalid_type",
        param=path,
    )


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
