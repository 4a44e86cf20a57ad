"""The network between an engine and the database: a process that forwards bytes, until it is cut.

As a program, it listens on a port of 127.0.0.1 and forwards to PostgreSQL's Unix socket. It is a
process of its own so that it can be frozen or killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

from devtools.processes import ROOT, Failed

_READY_WITHIN_S = 20.0


@dataclass
class Relay:
    port: int
    to: Path
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def begin(self) -> None:
        command = [sys.executable, "-m", "devtools.chaos.relay", str(self.port), str(self.to)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)

    async def until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            await asyncio.sleep(0.05)
        raise Failed(f"Nothing listens on port {self.port}, where the database's relay should.")

    def hang(self) -> None:
        """Let nothing through: connections stay open, as if packets were silently dropped."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def cut(self) -> None:
        """Reset all connections, and refuse new ones until :meth:`begin`."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


async def _serve(port: int, to: str) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(to)
            inwards = asyncio.create_task(_pump(reader, inner_writer))
            await _pump(inner_reader, writer)
            inwards.cancel()
            inner_writer.close()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(256 << 10):
            writer.write(piece)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2]))
