"""Error messages of the scripts in ``bin``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("python3.13", "python3.12", "python3.11", "python3")

IS_OLD = """#!/bin/sh
case "$1" in --version) echo "Python 3.9.2" ;; *) exit 1 ;; esac
"""
HAS_NO_VENV = """#!/bin/sh
case "$2" in *ensurepip*) exit 1 ;; *print*) echo "3.11" ;; esac
"""
HAS_NO_NETWORK = """#!/bin/sh
case "$2" in
venv) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
pip) echo "WARNING: Retrying after NewConnectionError('...')"; echo "ERROR: No match"; exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and requirements of a new checkout, in a folder with a space in its name."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "bin", folder / "bin")
    for name in ("requirements.lock", "requirements-embedded.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def refusal(checkout: Path, python: str) -> str:
    """Run bin/dev with this script as every Python; return the last line of its errors."""
    for name in PYTHONS:
        path = checkout.parent / "fake" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(python)
        path.chmod(0o755)
    ended = subprocess.run(
        [checkout / "bin" / "dev"],
        env={"PATH": f"{checkout.parent / 'fake'}:{os.environ['PATH']}"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    return ended.stderr.splitlines()[-1]


def test_every_script_installs_the_embedded_database() -> None:
    prepares = {
        path.name: line.split()[1:]
        for path in (ROOT / "bin").iterdir()
        for line in path.read_text().splitlines()
        if line.startswith("prepare ")
    }
    assert "upgrade" in prepares
    with_it = {"requirements-embedded.lock", "requirements-dev.lock"}
    assert [name for name, files in prepares.items() if with_it.isdisjoint(files)] == []


def test_python_too_old(checkout: Path) -> None:
    assert refusal(checkout, IS_OLD) == (
        "bin/dev: Python 3.11 or newer is needed, and Python 3.9.2 was found."
    )


def test_no_venv_module(checkout: Path) -> None:
    assert refusal(checkout, HAS_NO_VENV) == (
        "bin/dev: Python 3.11 has no venv module: install it (Debian and Ubuntu: apt-get install "
        "python3.11-venv)."
    )


def test_no_network(checkout: Path) -> None:
    assert "could not install requirements.lock: the first run needs the network" in refusal(
        checkout, HAS_NO_NETWORK
    )
