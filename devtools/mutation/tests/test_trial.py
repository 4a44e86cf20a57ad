"""The outcome of faults in a small package with tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.mutation.run import ROOT

CODE = """
def double(number):
    return number + number


def early():
    return True


IS_EARLY = early()


class Counter:
    def count(self, most):
        number = 0
        while number < most:
            number += 1
        return number

    def unseen(self):
        return self.nothing(1)
"""
TESTS = """
from package import code


def test_double():
    assert code.double(2) == 4


def test_early():
    assert code.IS_EARLY


def test_count():
    assert code.Counter().count(3) == 3
"""
GENERATED = """
from package import code


def test_generated():
    assert code.double(0) == 0
"""
# In its own process, which imports the code from the folder.
TRY = """
import json, sys
from pathlib import Path
from devtools.mutation import trial
from devtools.mutation.operators import Mutant

folder, *wanted = json.loads(sys.argv[1])
path = Path(folder, "package/code.py")
source = path.read_bytes()
suite = trial.Suite(Path(folder), "tests", "tests/test_generated.py", patience=1)
assert trial.observe(suite)
faults = []
for function, before, after in wanted:
    start = source.index(before.encode())
    mutant = Mutant(start, start + len(before), after.encode(), function)
    faults.append(trial.Fault(path, mutant))
ends = {fault.mutant.instead.decode(): status for fault, status in trial.outcomes(suite, faults, 2)}
assert path.read_bytes() == source
print(json.dumps(ends))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("package/__init__.py", ""),
        ("package/code.py", CODE),
        ("tests/test_named.py", TESTS),
        ("tests/test_generated.py", GENERATED),
        ("pytest.ini", "[pytest]\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def tried(folder: Path, *faults: tuple[str, str, str]) -> dict[str, int]:
    """Return the outcome of each fault: function, original and replacement."""
    argument = json.dumps([str(folder), *faults])
    done = subprocess.run(
        [sys.executable, "-c", TRY, argument], cwd=ROOT, check=True, capture_output=True, text=True
    )
    result: dict[str, int] = json.loads(done.stdout)
    return result


def test_what_becomes_of_each(folder: Path) -> None:
    ends = tried(
        folder,
        ("double", "number + number", "number - number"),  # a named test finds it
        ("double", "number + number", "number * 2 or 1"),  # a generated one does
        ("early", "True", "False"),  # it runs at import
        ("Counter.count", "number += 1", "pass"),  # it never ends
        ("Counter.unseen", "self.nothing(1)", "self.nothing(2)"),
    )
    assert ends.pop("pass") < 0
    assert ends == {
        "number - number": 10,
        "number * 2 or 1": 11,
        "False": 10,
        "self.nothing(2)": 0,
    }


def test_a_fault_that_needs_another_import_survives_if_nobody_looks(folder: Path) -> None:
    (folder / "tests/test_named.py").write_text(TESTS.replace("code.IS_EARLY", "True"))
    assert tried(folder, ("early", "True", "False")) == {"False": 0}


def test_a_fault_that_nothing_can_be_imported_with_is_seen(folder: Path) -> None:
    assert tried(folder, ("", "IS_EARLY = early()", "IS_EARLY = 1 / 0")) == {"IS_EARLY = 1 / 0": 10}
