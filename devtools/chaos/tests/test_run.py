"""``bin/chaos`` around its experiments: it reports and counts its findings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.tests.long import only_in_all
from devtools.attack import namespace
from devtools.chaos import run
from devtools.chaos.experiments import IN_SHORT, NAMES
from devtools.chaos.report import Notes, Report
from devtools.processes import ROOT


def test_the_table_counts_what_must_hold() -> None:
    report = Report()
    notes = Notes("kills", report)
    notes.expect("A call is charged.", True)
    notes.expect("A call is told.", True)
    notes.expect("A call is told.", False, sent="CA1", came="0 ends")
    notes.within("It is over", 1.5, 15.0)
    report.seconds["kills"] = 12.0
    lines = report.table().splitlines()
    assert lines[1].split() == ["kills", "4", "2", "of", "3", "1", "12"]
    assert lines[-1].split() == ["all", "4", "1", "12"]
    assert report.numbers().split() == ["kills", "It", "is", "over:", "1.50", "s"]


def test_what_never_happens_is_a_finding() -> None:
    report = Report()
    assert not Notes("kills", report).within("It is over", None, 15.0)
    assert "came: never" in report.told()


def test_experiments_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.parse([]).names == list(NAMES)
    assert run.parse(["--short"]).names == list(IN_SHORT)
    assert run.parse(["--only", "lanes", "--only", "kills"]).names == ["lanes", "kills"]
    assert run.parse(["--short", "--only", "lanes"]).names == ["lanes"]
    with pytest.raises(SystemExit):
        run.parse(["--only", "nothing"])
    assert "invalid choice" in capsys.readouterr().err


def test_every_experiment_lists_what_it_kills() -> None:
    from devtools.chaos.session import experiment_of

    for name in NAMES:
        assert set(experiment_of(name).KILLS) <= {"web", "engine", "engine-2", "worker"}


@only_in_all("a whole product")
@pytest.mark.skipif(namespace.command() is None, reason="unshare is not allowed here")
def test_the_exit_status_says_whether_there_are_findings(tmp_path: Path) -> None:
    """Run it with an experiment of one invariant that holds and one that fails."""
    experiment = tmp_path / "experiment_of_a_test.py"
    experiment.write_text(
        "KILLS = ()\n"
        "async def run(system, notes):\n"
        "    rows = await system.query('SELECT 1')\n"
        "    notes.expect('The database answers.', rows == [(1,)], came=rows)\n"
        "    notes.expect('Nothing is said.', rows == [], came=rows)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "devtools.chaos.run", "--short", "--only", "kills"],
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "ATTACK_INSTEAD": str(experiment),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "[kills] Nothing is said." in ended.stdout
    assert "[at the end]" not in ended.stdout, ended.stdout
    row = next(line for line in ended.stdout.splitlines() if line.startswith("kills "))
    assert row.split()[2:6] == ["2", "of", "3", "1"]
