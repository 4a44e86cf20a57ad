"""``manage.py`` finds the running program, whatever its ports are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.tests.long import only_in_all
from core.tests.web import database_url
from devtools.running import ADDRESSES, adopt_addresses, announced, folder_of
from devtools.tests.development import ROOT, Development

_HOLD = """
import sys
from pathlib import Path
from devtools.running import announced
with announced(Path(sys.argv[1]), {"PORT": sys.argv[2]}):
    print("announced", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(local: Path, port: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has announced its port, until the end of the block."""
    command = [sys.executable, "-c", _HOLD, str(local), port]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "announced\n"
        yield process
        process.kill()


def adopted(local: Path, **environment: str) -> dict[str, str]:
    adopt_addresses(local, environment)
    return environment


def test_it_works(tmp_path: Path) -> None:
    with another(tmp_path, "9100"):
        assert adopted(tmp_path, DEBUG="1") == {"DEBUG": "1", "PORT": "9100"}


def test_without_a_program_nothing_changes(tmp_path: Path) -> None:
    assert adopted(tmp_path) == {}


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_in_the_environment_wins(tmp_path: Path, name: str) -> None:
    with another(tmp_path, "9100"):
        assert adopted(tmp_path, **{name: "9200"}) == {name: "9200"}


def test_what_a_killed_program_left_behind_is_ignored(tmp_path: Path) -> None:
    with another(tmp_path, "9100") as killed:
        killed.kill()
        killed.wait()
        assert list(folder_of(tmp_path).iterdir())
        assert adopted(tmp_path) == {}


def test_the_one_that_was_started_last_counts(tmp_path: Path) -> None:
    with another(tmp_path, "9100") as first, another(tmp_path, "9200"):
        for path in folder_of(tmp_path).glob(f"{first.pid}.json"):
            os.utime(path, (1, 1))
        assert adopted(tmp_path) == {"PORT": "9200"}


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with announced(tmp_path, {"PORT": "9100"}):
        pass
    assert list(folder_of(tmp_path).iterdir()) == []


@only_in_all("a whole product")
@pytest.mark.django_db
def test_commands_call_the_program_that_runs(running: Development) -> None:
    environment = {"PATH": os.environ["PATH"], "DEBUG": "1", "DATABASE_URL": database_url()}
    shown = subprocess.check_output(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", _SHOW],
        cwd=ROOT,
        env=environment,
        text=True,
    )
    assert shown.split() == [running.url, running.sandbox_url]


_SHOW = """
from django.conf import settings
from sandbox.management.commands.simulate_call import Command
parser = Command().create_parser("manage.py", "simulate_call")
print(settings.PUBLIC_URL, parser.parse_args(["--number", "+15551234567"]).sandbox)
"""
