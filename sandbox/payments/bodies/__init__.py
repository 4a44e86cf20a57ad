"""Stripe's objects as they begin: for each kind a JSON file with what all of them have."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def blank(kind: str) -> dict[str, Any]:
    """Return a new object of the kind (what Stripe calls ``object``) without its own fields."""
    body: dict[str, Any] = json.loads(_text(kind))
    return body


@cache
def _text(kind: str) -> str:
    return (_FOLDER / f"{kind}.json").read_text()
