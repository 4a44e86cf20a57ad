"""The guide lists every environment variable that the code reads, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from docs.tests.test_guides import codes, rows

ROOT = Path(__file__).resolve().parents[2]

_VARIABLE = re.compile(
    r"""(?:env\.\w+|environ\.get|_number|_flag|_link|_address|_own_address)\(\s*"([A-Z_]+)\"""",
    re.VERBOSE,
)
# Of no interest to operators.
_INTERNAL = {"DJANGO_SETTINGS_MODULE", "NO_COLOR", "ATTACK_INSTEAD"}
# gunicorn reads it.
_OF_LIBRARIES = {"WEB_CONCURRENCY"}


def sources(*folders: str) -> Iterator[str]:
    for path in chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders):
        if "tests" not in path.parts:
            yield path.read_text(encoding="utf-8")


def test_every_variable_is_listed() -> None:
    read = {
        name
        for source in sources("config", "core", "devtools", "sandbox")
        for name in _VARIABLE.findall(source)
    }
    listed = [name for cell in rows("environment-variables", "variable") for name in codes(cell)]
    assert len(listed) == len(set(listed))
    assert set(listed) == read - _INTERNAL | _OF_LIBRARIES
