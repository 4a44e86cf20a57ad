"""README lists what there is: every variable, every code. What it promises is tested elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from telephony.engine.session import FATAL_CODES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

_VARIABLE = re.compile(
    r"""(?:env\.\w+|environ\.get|_number|_flag|_address|_own_address)\(\s*"([A-Z_]+)\"""",
    re.VERBOSE,
)
_REASON = re.compile(r"""(?:\breason=|\._end\()"([a-z_]+)\"""")
_CODE = re.compile(r"""(?:CallStartFailed\(|\._fail\(|\berror = \()\s*"([a-z_]+)\"""")
# Of no interest to who runs the product.
_NOT_OURS = {"DJANGO_SETTINGS_MODULE", "NO_COLOR", "ATTACK_INSTEAD"}


def sources(*folders: str) -> Iterator[str]:
    for path in chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders):
        if "tests" not in path.parts:
            yield path.read_text()


def found(pattern: re.Pattern[str], *folders: str) -> set[str]:
    names = {name for source in sources(*folders) for name in pattern.findall(source)}
    assert len(names) > 3
    return names


def table(heading: str) -> set[str]:
    """Return the names in the first column of the table below a heading."""
    section = README.split(f"### {heading}\n")[1].split("\n#")[0]
    first_cells = re.findall(r"^\| (`[^|]*)\|", section, re.MULTILINE)
    return set(re.findall(r"`([A-Za-z_]+)`", " ".join(first_cells)))


def test_variables() -> None:
    in_the_code = found(_VARIABLE, "config", "core", "devtools", "sandbox")
    assert table("Environment") == in_the_code - _NOT_OURS | {"WEB_CONCURRENCY"}


def test_ended_reasons() -> None:
    assert found(_REASON, "telephony") - {"busy"} <= table("`endedReason`")


@pytest.mark.parametrize("code", sorted(found(_CODE, "telephony")))
def test_error_codes(code: str) -> None:
    assert code in table("`onError`") or code.removeprefix("model_") in FATAL_CODES
