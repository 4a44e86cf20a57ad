"""``.ci/run`` fails without a browser instead of skipping tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from devtools.tests.development import ROOT


@pytest.mark.parametrize("browser", ["", "chromium", "google-chrome"])
def test_it_fails_without_a_browser(tmp_path: Path, browser: str) -> None:
    run, tools = tmp_path / ".ci/run", tmp_path / "tools"
    for folder in (run.parent, tmp_path / "bin", tools):
        folder.mkdir()
    shutil.copy(ROOT / ".ci/run", run)
    (tmp_path / "bin/test").write_text("#!/bin/sh\necho tested\n")
    (tmp_path / "bin/test").chmod(0o755)
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    if browser:
        (tools / browser).symlink_to("/bin/true")
    done = subprocess.run(
        [str(tools / "bash"), str(run)],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert (done.returncode, done.stdout) == ((0, "tested\n") if browser else (1, ""))
    assert ("Chromium is missing" in done.stderr) == (not browser)
