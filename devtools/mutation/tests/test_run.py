"""The command, and its list of equivalent mutants."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from devtools.mutation import run


def test_each_explanation_matches_a_mutant() -> None:
    with tempfile.TemporaryDirectory() as name:
        run.copy(Path(name))
        changes = [run.change(run.diff(fault, Path(name))) for fault in run.all_faults(Path(name))]
    known = {*changes, *((file, line, "") for file, line, _ in changes)}
    assert run.explanations() - known == set()


def test_the_score_is_what_was_found_or_explained(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(
        {("a.py", "named"): 5, ("a.py", "survived"): 1, ("b.py", "explained"): 2}
        | {("b.py", "cut"): 1, ("b.py", "generated"): 1}
    )
    assert run.report(counts) == 90.0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["all", "10", "5", "1", "1", "2", "1", "90.0", "%"]
