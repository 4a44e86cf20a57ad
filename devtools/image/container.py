"""A process of the image, confined as Compose confines it: without a daemon, with ``unshare``.

It has a tree of processes of its own, a read-only root file system, an empty /tmp and /dev/shm, the
image's user and no capability. It shares this run's network.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools.processes import Failed

# $1: the root of the image's files. $2: the folder with files of this run. The rest: the command.
_CONFINE = """
set -eu
root=$1 ours=$2
shift 2
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind /etc/hosts "$root/etc/hosts"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
for list in "$root"/etc/ssl/certs/ca-certificates.crt \
    "$root"/opt/venv/lib/python3*/site-packages/stripe/data/ca-certificates.crt; do
    mount --bind "$ours/authority.pem" "$list"
done
exec chroot "$root" "$@"
"""
_AS_USER = (
    *("setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"),
    *("env", "-C", "/app"),
)


@dataclass(frozen=True)
class Image:
    """An image whose files are at ``root``, and what its containers share."""

    root: Path
    ours: Path
    variables: Mapping[str, str]
    logs: Path

    def run(self, name: str, command: Sequence[str], **variables: str) -> Container:
        """Start the image's entry point with this command."""
        variables = {**self.variables, **variables}
        inner = (*_AS_USER, f"PATH={variables['PATH']}", "/app/deploy/run", *command)
        log = (self.logs / f"{name}.log").open("wb")
        with log:
            popen = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                    *(f"--mount-proc={self.root}/proc", "sh", "-c", _CONFINE, "sh"),
                    *(str(self.root), str(self.ours), *inner),
                ],
                env={**variables, "PATH": _path_here()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Container(name, self, variables, popen)


@dataclass(frozen=True)
class Container:
    name: str
    image: Image
    variables: Mapping[str, str]
    popen: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.image.logs / f"{self.name}.log").read_text(errors="replace")

    def succeeds(self, within: float) -> None:
        """Wait for its end; raise :class:`Failed` unless it succeeds in time."""
        try:
            status = self.popen.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} has not ended within {within:.0f} s.") from None
        if status:
            raise Failed(f"{self.name} ended with status {status}: {self.log[-1500:]}")

    def stop(self, within: float) -> None:
        """Send SIGTERM to its first process, as Compose does."""
        if self.popen.poll() is None:
            os.kill(self._first(), signal.SIGTERM)
        self.succeeds(within)

    def is_healthy(self, health_check: Sequence[str]) -> bool:
        if self.popen.poll() is not None:
            raise Failed(f"{self.name} has ended: {self.log[-1500:]}")
        inside = ("nsenter", f"--target={self._first()}", "--mount", "--pid")
        path = f"PATH={self.variables['PATH']}"
        checked = subprocess.run(
            [*inside, "chroot", str(self.image.root), *_AS_USER, path, *health_check],
            env={**self.variables, "PATH": _path_here()},
            capture_output=True,
            check=False,
        )
        return checked.returncode == 0

    def kill(self) -> None:
        """Kill all its processes: they end with their first."""
        if self.popen.poll() is None:
            os.kill(self._first(), signal.SIGKILL)
        self.popen.wait()

    def _first(self) -> int:
        """Return the id, here, of the process that is 1 inside."""
        pid = self.popen.pid
        children: list[str] = []
        while not children and self.popen.poll() is None:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])


def _path_here() -> str:
    """Return where the programs are that confine: not in the image."""
    folders = {str(Path(shutil.which(name) or name).parent) for name in ("mount", "chroot", "sh")}
    return ":".join(sorted({*folders, "/usr/sbin", "/usr/bin", "/sbin", "/bin"}))
