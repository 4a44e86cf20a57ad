"""Building the image with buildah, which needs neither a daemon nor a registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.processes import ROOT, Failed

IMAGE = "localhost/switchhook"
#: Debian with Python, for machines that reach no registry.
DEBIAN = "localhost/debian-python"
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
# How this machine reaches the packages: its own index, and the authorities that it trusts.
_OF_THIS_MACHINE = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs")


@dataclass(frozen=True)
class Buildah:
    """``storage`` is a folder of its own, which keeps images and layers for the next run."""

    storage: Path

    def make_base(self) -> None:
        """Make the base image with debootstrap, unless it is there."""
        if self._has(DEBIAN):
            return
        self.storage.mkdir(parents=True, exist_ok=True)
        tree = self.storage / "debian"
        _run("rm", "--recursive", "--force", tree)
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, tree)
        container = self("from", "scratch")
        self("add", "--quiet", container, tree, "/")
        self("commit", "--quiet", container, DEBIAN)
        self("rm", container)
        _run("rm", "--recursive", "--force", tree)

    def build(self, base: str) -> None:
        volumes = [f"--volume={path}:{path}:ro" for path in _OF_THIS_MACHINE if Path(path).exists()]
        # Of Docker's formats: OCI's has no health check.
        self(
            *("bud", "--isolation=chroot", "--format=docker", "--layers", f"--tag={IMAGE}"),
            *(f"--build-arg=BASE={base}", *volumes, str(ROOT)),
        )

    def configuration(self) -> dict[str, Any]:
        """Return the image's configuration in Docker's format: ``User``, ``Env``, ``Labels`` …"""
        found = json.loads(self("inspect", "--type=image", IMAGE))
        return dict(found["Docker"]["config"])

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Yield the root of the image's files; what is written there is thrown away."""
        container = self("from", IMAGE)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)

    def _has(self, image: str) -> bool:
        return bool(self._call("images", "--quiet", image, check=False).stdout.strip())

    def __call__(self, *arguments: str | Path) -> str:
        return self._call(*arguments).stdout.strip()

    def _call(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        folders = (f"--root={self.storage}/images", f"--runroot={self.storage}/run")
        return _run("buildah", *folders, "--storage-driver=overlay", *arguments, check=check)


def _run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if check and ended.returncode:
        said = (ended.stderr or ended.stdout).strip()[-1500:]
        raise Failed(f"{' '.join(map(str, command[:6]))} … failed:\n{said}")
    return ended
