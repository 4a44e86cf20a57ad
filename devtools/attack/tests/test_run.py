"""``bin/attack`` around its areas: it reports and counts its findings."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from core.tests.long import only_in_all
from devtools.attack import run
from devtools.attack.areas import NAMES
from devtools.attack.report import Notes, Report, short
from devtools.chaos import run as chaos
from devtools.processes import ROOT


def a_report() -> Report:
    report = Report()
    Notes("doors", report).expect("A door is closed.", True, sent="a knock", came="nothing")
    Notes("doors", report).expect("A door is closed.", False, sent="a push", came="it opened")
    report.skipped["windows"] = "there are none"
    return report


def test_attempts_are_counted_and_findings_shown() -> None:
    report = a_report()
    lines = report.table().splitlines()
    assert lines[1].split() == ["doors", "2", "1"]
    assert lines[2].split() == ["windows", "skipped", "there", "are", "none"]
    assert lines[-1].split() == ["all", "2", "1"]
    assert report.told().splitlines() == [
        "[doors] A door is closed.",
        "    sent: a push",
        "    came: it opened",
    ]


def test_a_repeated_finding_is_shown_three_times() -> None:
    report = Report()
    for number in range(9):
        Notes("doors", report).expect("A door is closed.", False, sent=number)
    told = report.told()
    assert told.count("sent: ") == 3
    assert told.endswith("and 6 more like it")


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert short("a\x1b[2J\nb") == "a\\x1b[2J\\nb"
    assert short("x" * 1000).endswith("… (1,000 characters)")


def test_areas_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.parse([]).areas == list(NAMES)
    assert run.parse(["--area", "mail", "--area", "slow"]).areas == ["mail", "slow"]
    with pytest.raises(SystemExit):
        run.parse(["--area", "nothing"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_short_run_is_the_same_each_time() -> None:
    assert run.parse(["--short"]).seed == run.parse(["--short"]).seed


@pytest.mark.parametrize("module", [run.INSIDE, chaos.INSIDE])
def test_the_module_that_runs_inside_the_network_exists(module: str) -> None:
    assert find_spec(module)


@only_in_all("a whole product")
def test_the_exit_status_says_whether_there_are_findings(tmp_path: Path) -> None:
    """Run it with an area of two cases, one of which fails.

    That the status is 0 without findings shows in every run of ``bin/test``.
    """
    area = tmp_path / "attack_of_a_test.py"
    area.write_text(
        "NEEDS_NETWORK = False\n"
        "async def attack(context, notes):\n"
        "    answer = await context.web.ask('GET', '/api/account')\n"
        "    for status in (401, 200):\n"
        "        holds = answer.status == status\n"
        "        notes.expect(f'It is {status}.', holds, sent='GET /api/account', came=answer)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "devtools.attack.run", "--area", "secrets"],
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "ATTACK_INSTEAD": str(area),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "It is 401." not in ended.stdout
    assert "[secrets] It is 200.\n    sent: GET /api/account\n    came: 401" in ended.stdout
    assert f"{'all':12}{2:9}{1:9}" in ended.stdout
