"""``expand[]``: replaces ids by their objects."""

from __future__ import annotations

from typing import Any

from sandbox.payments.models import StripeObject
from sandbox.payments.wire.errors import Refusal

Body = dict[str, Any]


def expanded(body: Body, paths: list[str]) -> Body:
    """Return the object with the fields expanded; raise Refusal if one cannot be.

    Nothing is expanded in the stub of a deleted object.
    """
    if body.get("deleted"):
        return body
    for path in paths:
        body = _expand(body, path.split("."), path)
    return body


def _expand(body: Body, names: list[str], path: str) -> Body:
    name, *rest = names
    value = body.get(name)
    if isinstance(value, str):
        found = StripeObject.objects.filter(id=value).first()
        value = found and found.body
    if name not in body or (value is None and body[name] is not None):
        raise Refusal(f"This property cannot be expanded ({path}).", param="expand")
    if isinstance(value, dict) and rest:
        value = _expand(value, rest, path)
    return body | {name: value}
