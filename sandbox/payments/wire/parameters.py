"""Checks a request's parameters against stripe-python's own types (``stripe.params``).

Those are generated from Stripe's description of its API. A parameter that is unknown, missing or of
another type in this version of the API is refused as Stripe refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import stripe._request_options
from typing_extensions import get_type_hints, is_typeddict

from sandbox.payments.wire.errors import (
    Refusal,
    empty_parameter,
    missing_parameter,
    unknown_parameters,
)
from sandbox.payments.wire.forms import as_list

_OPTIONS = stripe._request_options.RequestOptions.__annotations__.keys()
_NAMES = {**vars(stripe._request_options), "StripeContext": object}

T = TypeVar("T")


class _Accepted(NamedTuple):
    """The accepted types of a parameter: the members of its type's union."""

    types: tuple[Any, ...]
    literals: tuple[str, ...]

    def first(self, is_wanted: Callable[[Any], bool]) -> Any:
        return next((type for type in self.types if is_wanted(type)), None)


def checked(given: Mapping[str, Any], params: type) -> dict[str, Any]:
    """Return the parameters with their types; raise Refusal.

    An empty string, which unsets a parameter, becomes None.
    """
    return _fields(given, params, "")


def parameter_names(params: type) -> frozenset[str]:
    """Return the names that the type knows."""
    return frozenset(_hints(params))


@cache
def _hints(params: type) -> dict[str, Any]:
    """Return the type of each parameter, without the SDK's own options."""
    hints = get_type_hints(params, localns=_NAMES)
    options = _OPTIONS if hints.keys() >= set(_OPTIONS) else ()
    return {name: hint for name, hint in hints.items() if name not in options}


def _fields(given: Mapping[str, Any], params: type, path: str) -> dict[str, Any]:
    hints = _hints(params)
    if unknown := [_join(path, name) for name in given if name not in hints]:
        raise unknown_parameters(unknown)
    for name in hints:
        if name in params.__required_keys__ and name not in given:  # type: ignore[attr-defined]
            raise missing_parameter(_join(path, name))
    return {name: _value(value, hints[name], _join(path, name)) for name, value in given.items()}


def _join(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _value(value: Any, hint: Any, path: str) -> Any:
    accepted = _accepted(hint)
    if value == "":
        if "" in accepted.literals:
            return None
        raise empty_parameter(path)
    if isinstance(value, dict | list):
        return _composite(value, accepted, path)
    return _scalar(value, accepted, path)


@cache
def _accepted(hint: Any) -> _Accepted:
    members = _members(hint)
    literals = [text for member in members if _is_literal(member) for text in get_args(member)]
    types = tuple(member for member in members if not _is_literal(member))
    return _Accepted(types, tuple(map(str, literals)))


def _members(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [member for part in get_args(hint) for member in _members(part)]
    return [hint]


def _is_literal(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _composite(value: Any, accepted: _Accepted, path: str) -> Any:
    items = accepted.first(lambda type: get_origin(type) is list)
    fields = accepted.first(is_typeddict)
    mapping = accepted.first(lambda type: get_origin(type) is dict)
    if items is not None and (elements := as_list(value)) is not None:
        (element,) = get_args(items)
        return [_value(each, element, f"{path}[{n}]") for n, each in enumerate(elements)]
    if fields is not None and isinstance(value, dict):
        return _fields(value, fields, path)
    if mapping is not None and isinstance(value, dict):
        return {key: _entry(each, mapping, f"{path}[{key}]") for key, each in value.items()}
    raise _invalid("array" if items is not None else _name(accepted), value, path)


def _entry(value: Any, mapping: Any, path: str) -> Any:
    """An empty entry of a mapping (metadata) removes it: the mapping's owner does that."""
    _, type = get_args(mapping)
    return "" if value == "" else _value(value, type, path)


def _scalar(value: Any, accepted: _Accepted, path: str) -> Any:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text in accepted.literals:
        return text
    for type, parse in _PARSERS.items():
        if type in accepted.types and (parsed := parse(text)) is not None:
            return parsed
    if choices := [literal for literal in accepted.literals if literal]:
        raise _not_one_of(choices, path)
    if str in accepted.types:
        return text
    raise _invalid(_name(accepted), text, path)


def _int(text: str) -> int | None:
    digits = text[1:] if text[:1] in "+-" else text
    return int(text) if digits.isdecimal() and digits.isascii() else None


def _bool(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def _decimal(text: str) -> str | None:
    """Return the number as Stripe writes it: a string."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return f"{number.normalize():f}" if number.is_finite() else None


def _float(text: str) -> float | None:
    number = _decimal(text)
    return None if number is None else float(number)


_PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: _bool,
    int: _int,
    Decimal: _decimal,
    float: _float,
}
_KINDS = {bool: "boolean", int: "integer", Decimal: "decimal", float: "decimal"}


def _name(accepted: _Accepted) -> str:
    for type in accepted.types:
        if type in _KINDS:
            return _KINDS[type]
        if is_typeddict(type) or get_origin(type) is dict:
            return "object"
        if get_origin(type) is list:
            return "array"
    return "string"


def _invalid(kind: str, value: Any, path: str) -> Refusal:
    shown = value if isinstance(value, str) else ""
    code = "parameter_invalid_integer" if kind == "integer" else None
    return Refusal(f"Invalid {kind}" + (f": {shown}" if shown else ""), code=code, param=path)


def _not_one_of(choices: list[str], path: str) -> Refusal:
    match choices:
        case [only]:
            text = only
        case [first, last]:
            text = f"{first} or {last}"
        case [*most, last]:
            text = f"one of {', '.join(most)}, or {last}"
    return Refusal(f"Invalid {path}: must be {text}", param=path)
