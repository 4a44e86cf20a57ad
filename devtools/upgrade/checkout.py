"""The previous release beside this one: its files, and a Python with its packages."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tarfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from devtools.upgrade import ROOT, git_bytes

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(.*)$", re.MULTILINE)


class NoEnvironment(Exception):
    """The packages of the previous release could not be installed."""


def check_out(commit: str, folder: Path) -> None:
    """Write the commit's files into the folder."""
    with tarfile.open(fileobj=io.BytesIO(git_bytes("archive", commit))) as archive:
        archive.extractall(folder, filter="data")


def python_for(checkout: Path, local: Path) -> str:
    """Return a Python for the checkout: this one, if it has the locked versions.

    Otherwise make an environment below ``local``, once for each lock. That takes a minute, and the
    network. Raises :class:`NoEnvironment`.
    """
    lock = checkout / "requirements.lock"
    if all(_is_installed(name, wanted) for name, wanted, where in _locked(lock) if not where):
        return sys.executable
    folder = local / f"python-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        options = ("--require-hashes", "--only-binary", ":all:", "--quiet", "--no-input")
        _run(str(python), "-m", "pip", "install", *options, "--requirement", str(lock))
        (folder / "complete").touch()
    return str(python)


def _locked(lock: Path) -> list[tuple[str, str, str]]:
    """Return each package's name, version and marker: those of other systems have one."""
    return [
        (name, wanted, rest.partition(";")[2].rstrip(" \\"))
        for name, wanted, rest in _PINNED.findall(lock.read_text())
    ]


def _is_installed(name: str, wanted: str) -> bool:
    try:
        return version(name) == wanted
    except PackageNotFoundError:
        return False


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoEnvironment(done.stderr.strip().splitlines()[-1] if done.stderr else command[0])
