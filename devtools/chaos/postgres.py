"""A PostgreSQL that can be stopped, crashed and frozen: a copy of the attacks' server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from devtools.postgres import Server, server_of
from devtools.processes import cpu_seconds


@contextmanager
def copied(url: str, *, as_replica: bool = False) -> Iterator[Path]:
    """Copy the whole server of a database; yield the folder for :class:`Postgres`.

    :param as_replica: the copy streams from the server, and takes no writes.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        base = Path(folder)
        base.chmod(0o755)  # if root runs this, the server has another user
        server = server_of(base)
        server.base.mkdir(parents=True, exist_ok=True)
        for path in (server.log, server.data):
            server.own(path)
        socket = parse_qs(urlsplit(url).query)["host"][0]
        follows = ["--write-recovery-conf"] if as_replica else []
        server.run(
            "pg_basebackup",
            f"--host={socket}",
            "--username=postgres",
            "--checkpoint=fast",
            *follows,
        )
        # The socket of the other server may be in the folder that was copied.
        (server.data / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        try:
            yield base
        finally:
            if server.base != base:
                shutil.rmtree(server.base, ignore_errors=True)


@dataclass
class Postgres:
    """A server; ``url`` and ``socket`` are set at the first start and do not change."""

    folder: Path
    database: str
    url: str = ""
    socket: Path = Path()

    @property
    def _server(self) -> Server:
        return server_of(self.folder)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)
        sockets = self._server.socket_folder()
        self.url = f"postgresql://postgres@/{self.database}?host={sockets}"
        self.socket = Path(sockets) / ".s.PGSQL.5432"

    async def stop(self) -> None:
        """Stop the server and every connection, as a restart does."""
        await asyncio.to_thread(self._server.stop)

    async def crash(self) -> None:
        """Kill the server; the next start recovers."""
        await asyncio.to_thread(self._server.run, "pg_ctl", "stop", "--wait", "--mode=immediate")

    def hang(self) -> None:
        """Freeze all processes: connections stay open, and nothing responds."""
        postmaster = self._postmaster()
        os.kill(postmaster, signal.SIGSTOP)  # first, or it starts another process meanwhile
        for pid in self._children(postmaster):
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        postmaster = self._postmaster()
        for pid in [*self._children(postmaster), postmaster]:
            os.kill(pid, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server and all of its processes, also of those that ended."""
        postmaster = self._postmaster()
        running = sum(map(cpu_seconds, self._children(postmaster)))
        return cpu_seconds(postmaster, with_ended=True) + running

    def _postmaster(self) -> int:
        return int((self._server.data / "postmaster.pid").read_text().split()[0])

    @staticmethod
    def _children(pid: int) -> list[int]:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
