"""The release before this one, from which installations upgrade while calls are in progress."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: A tag or a commit. CONTRIBUTING.md says when to change it.
PREVIOUS = "610e35d92c34"


def previous_commit() -> str | None:
    """Return the commit's hash, or None if the history lacks it: a shallow clone, or no Git."""
    return git("rev-parse", "--verify", "--quiet", f"{PREVIOUS}^{{commit}}").strip() or None


def files_of(commit: str) -> set[str]:
    """Return the paths of the commit's files."""
    return set(git("ls-tree", "-r", "--name-only", "-z", commit).split("\0"))


def git(*arguments: str) -> str:
    """Return what the command writes; "" if it fails, or without Git."""
    return git_bytes(*arguments).decode()


def git_bytes(*arguments: str) -> bytes:
    program = shutil.which("git")
    if program is None:
        return b""
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""
