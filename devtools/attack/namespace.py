"""A network of the run's own: nothing sent in it can leave the machine.

``unshare`` gives the run a network without a way out, a view of the file system with our own
``/etc/hosts``, and a process tree that ends with its first process, however that ends. Inside,
every address is local, so every connection of the product is seen, whatever its address.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

# Public addresses, which are ours inside. Connections to any other are a finding.
PUBLIC = "93.184.215."
PRODUCT, TWILIO, OPENAI, BACKEND, STRIPE = (f"{PUBLIC}{number}" for number in range(10, 15))
PUBLIC_6 = "2606:2800:21f::10"

_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_ROOT = ("--user", "--map-root-user")


def command() -> list[str] | None:
    """Return the prefix that runs a command in its own network; None if that is not allowed."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return None
    options = [*_UNSHARE, *(() if os.geteuid() == 0 else _AS_ROOT)]
    tried = subprocess.run([*options, "true"], capture_output=True, check=False)
    return options if tried.returncode == 0 else None


def bring_up_loopback() -> None:
    """Bring up 127.0.0.1 earlier than :func:`set_up`; only for a process in its own namespace."""
    _run("ip", "link", "set", "lo", "up")


def set_up(hosts: Iterable[tuple[str, str]], folder: Path) -> None:
    """Set up the network and its names; only for a process in its own namespace."""
    for arguments in (
        "link set lo up",
        f"addr add {PRODUCT}/32 dev lo",
        f"-6 addr add {PUBLIC_6}/128 dev lo",
        "route add local default dev lo",
        "-6 route add local default dev lo",
    ):
        _run("ip", *arguments.split(), is_needed=not arguments.startswith("-6"))
    names = folder / "hosts"
    local = [("127.0.0.1", "localhost"), ("::1", "localhost")]
    names.write_text("".join(f"{address} {name}\n" for address, name in [*local, *hosts]))
    replace_file(Path("/etc/hosts"), names)
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    replace_file(Path("/etc/resolv.conf"), resolver)


def replace_file(path: Path, by: Path) -> None:
    """Replace a file by another one, for this run only."""
    _run("mount", "--bind", str(by), str(path.resolve()))


def _run(program: str, *arguments: str, is_needed: bool = True) -> None:
    found = shutil.which(program) or program
    subprocess.run([found, *arguments], check=is_needed, capture_output=True)
