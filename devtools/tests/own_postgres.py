"""A PostgreSQL that a test can stop and freeze, with the tables of the test's database."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from core.tests.web import database_url
from devtools.postgres import Server, server_of


class OwnPostgres:
    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.socket_folder}"

    @property
    def socket_folder(self) -> Path:
        return Path(self._server.socket_folder())

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def crash(self) -> None:
        """Stop without closing connections. From then on, connections are refused."""
        self._server.run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def configure(self, lines: str) -> None:
        """Add lines to ``postgresql.conf``, and restart."""
        with (self._server.data / "postgresql.conf").open("a") as file:
            file.write(lines)
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Freeze all processes. From then on, connections are accepted and nothing responds."""
        first = self._postmaster()
        first.suspend()  # first, or it starts another process meanwhile
        for process in first.children(recursive=True):
            process.suspend()

    def thaw(self) -> None:
        first = self._postmaster()
        for process in [first, *first.children(recursive=True)]:
            process.resume()

    def _postmaster(self) -> psutil.Process:
        pid = (self._server.data / "postmaster.pid").read_text().splitlines()[0]
        return psutil.Process(int(pid))

    @contextmanager
    def replica(self) -> Iterator[OwnPostgres]:
        """Run a streaming replica until the end of the block."""
        how = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        with _own_server() as server:
            server.own(server.log)
            server.own(server.data)
            server.run("pg_basebackup", f"--dbname={self.url}", *how)
            for lock in server.data.glob(".s.PGSQL.*.lock"):  # of this server's socket
                lock.unlink()
            with _running(OwnPostgres(server)) as copy:
                yield copy

    def copy_tables(self, *, with_rows: bool = False) -> None:
        programs = self._server.programs
        what = [] if with_rows else ["--schema-only"]
        dump = subprocess.run(
            [programs / "pg_dump", *what, "--no-owner", database_url()],
            capture_output=True,
            check=True,
        )
        subprocess.run(
            [programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", self.url],
            input=dump.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Run a server without tables until the end of the block."""
    with _own_server() as server, _running(OwnPostgres(server)) as own:
        with psycopg.connect(own.url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET fsync = off")
            session.execute("SELECT pg_reload_conf()")
        yield own


@contextmanager
def _own_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        Path(folder).chmod(0o755)  # if root runs the tests, the server has another user
        server = server_of(Path(folder))
        server.base.mkdir(parents=True, exist_ok=True)
        try:
            yield server
        finally:
            shutil.rmtree(server.base, ignore_errors=True)


@contextmanager
def _running(own: OwnPostgres) -> Iterator[OwnPostgres]:
    own.start()
    try:
        yield own
    finally:
        own.stop()
