"""Encoding of parameters in forms: ``items[0][price]=price_1&expand[]=customer``."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

_KEY = re.compile(r"\[([^\]]*)\]")


def decode(text: str) -> dict[str, Any]:
    """Return nested dictionaries of strings; lists are dictionaries with numeric keys at first."""
    form: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, bracket, _ = name.partition("[")
        path = [head, *(_KEY.findall(name) if bracket else [])]
        _put(form, path, value)
    return form


def _put(form: dict[str, Any], path: list[str], value: str) -> None:
    *parents, last = path
    for key in parents:
        below = form.setdefault(_index(form, key), {})
        if not isinstance(below, dict):
            below = form[key] = {}
        form = below
    form[_index(form, last)] = value


def _index(form: dict[str, Any], key: str) -> str:
    """Return the key; ``[]`` takes the next number."""
    return key or str(len(form))


def as_list(value: Any) -> list[Any] | None:
    """Return the list for a dictionary with numeric keys, or None."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and all(key.isdecimal() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return None
