"""``expand[]``: ids become the objects that they are of, and left out fields are put in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.payments.models import StripeObject
from sandbox.payments.wire.errors import Refusal

_DEPTH = 4

Body = dict[str, Any]
_includable: dict[tuple[str, str], Callable[[Body], Any]] = {}


def includable(kind: str, field: str) -> Callable[[Callable[[Body], Any]], Callable[[Body], Any]]:
    """Let a function give a field that is only there when it is asked for."""

    def register(give: Callable[[Body], Any]) -> Callable[[Body], Any]:
        _includable[kind, field] = give
        return give

    return register


def expanded(body: Body, paths: list[str]) -> Body:
    """Return the object with the fields expanded; raise Refusal when one cannot be."""
    for path in paths:
        names = path.split(".")
        if len(names) > _DEPTH:
            raise Refusal(
                f"You cannot expand more than {_DEPTH} levels of a property. Property: {path}",
                param="expand",
            )
        body = _expand(body, names, path)
    return body


def _expand(value: Any, names: list[str], path: str) -> Any:
    if isinstance(value, list):
        return [_expand(element, names, path) for element in value]
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _cannot(path)
    name, *rest = names
    inner = _field(value, name, path)
    if rest and inner is not None:
        inner = _expand(inner, rest, path)
    return value | {name: inner}


def _field(body: Body, name: str, path: str) -> Any:
    """Return a field's value with the object in the place of its id."""
    if give := _includable.get((body.get("object", ""), name)):
        return body[name] if body.get(name) is not None else give(body)
    if name not in body:
        raise _cannot(path)
    value = body[name]
    if isinstance(value, str):
        return _object(value, path)
    if isinstance(value, list) and all(isinstance(element, str) for element in value):
        return [_object(element, path) for element in value]
    return value


def _object(id: str, path: str) -> Body:
    found = StripeObject.objects.filter(id=id).first()
    if found is None:
        raise _cannot(path)
    return found.body


def _cannot(path: str) -> Refusal:
    return Refusal(f"This property cannot be expanded ({path}).", param="expand")
