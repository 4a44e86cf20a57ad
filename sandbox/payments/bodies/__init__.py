"""Initial bodies of Stripe's objects: a JSON file for each kind, with the common fields."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def blank(kind: str) -> dict[str, Any]:
    """Return a new object of the kind (Stripe's ``object``) without its own fields."""
    body: dict[str, Any] = json.loads(_text(kind))
    return body


@cache
def _text(kind: str) -> str:
    return (_FOLDER / f"{kind}.json").read_text()
