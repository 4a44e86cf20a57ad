"""PgBouncer in front of the primary, in transaction mode."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devtools.chaos.postgres import Postgres
from devtools.chaos.waiting import until
from devtools.cluster.run import program
from devtools.postgres import server_of
from devtools.processes import Failed

PORT = 6432
#: The most connections to the primary, for however many clients.
POOL_SIZE = 20
_READY_WITHIN_S = 10.0

_CONFIGURATION = """\
[databases]
* = host={socket} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 1000
"""


@dataclass
class Pooler:
    primary: Postgres
    folder: Path
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{PORT}/{self.primary.database}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        self._process = self._begin()

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            except OSError:
                return False
            writer.close()
            return True

        if not await until(listens, within=_READY_WITHIN_S):
            raise Failed(f"PgBouncer did not start: see {self.log}")

    def _begin(self) -> subprocess.Popen[bytes]:
        path = self.folder / "pgbouncer.ini"
        path.write_text(
            _CONFIGURATION.format(socket=self.primary.socket.parent, port=PORT, size=POOL_SIZE)
        )
        user = server_of(self.primary.folder).user  # it may use the socket, and is not root
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [program("pgbouncer") or "pgbouncer", "--quiet", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
            )

    async def restart(self) -> None:
        """Stop it once its transactions have ended, and start it again."""
        self.stop(signal.SIGINT)
        await self.start()

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
            self._process.wait(10)
