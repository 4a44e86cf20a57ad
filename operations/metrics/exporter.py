"""The exporter of a gunicorn or a worker: serves ``/metrics``, and does nothing else.

``python -m operations.metrics.exporter HOST PORT PROCESS DIRECTORY PARENT`` writes ``ready`` to
standard output once it listens, or one line that says why it does not. It ends, and deletes the
directory, when its parent ends, which sends SIGUSR1, or is killed: a drain, which can take hours,
can be watched to its end. So it ignores the signals that a service manager sends to all processes.

It runs apart from the process that it reports on and knows neither its settings nor its secrets.
Whatever a client of this port does, it takes nothing from a call. Nothing here imports Django.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from operations.metrics.collecting import BuildInfo, Processes, Values

# Prometheus needs one connection for each scrape. A new client takes the place of the oldest.
MOST_CLIENTS = 32
# A scrape on one machine takes milliseconds.
CLIENT_S = 5.0
LONGEST_HEAD = 8 << 10
# Clients that ask at about the same time share a result.
KEEP_S = 0.5
_LOOK_EVERY_S = 0.5
# An exporter locks its directory within moments.
_ABANDONED_S = 60.0
# A predecessor on this port notices within a moment that its parent has ended.
_TRIES, _TRY_AGAIN_S = 6, 0.5


class Exporter:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._text = b""
        self._made_at = 0.0
        self._clients: dict[asyncio.StreamWriter, None] = {}  # oldest first

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        self._clients[writer] = None
        if len(self._clients) > MOST_CLIENTS:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(CLIENT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            writer.transport.abort()
        finally:
            self._clients.pop(writer, None)

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _message("404 Not Found", "text/plain", b"Metrics are at /metrics.\n")
        if method != b"GET":
            return _message("405 Method Not Allowed", "text/plain", b"", "Allow: GET\r\n")
        return _message("200 OK", CONTENT_TYPE_LATEST, self._metrics())

    def _metrics(self) -> bytes:
        now = time.monotonic()
        if not self._text or now > self._made_at + KEEP_S:
            self._text = generate_latest(self._registry)
            self._made_at = time.monotonic()
        return self._text


def _message(status: str, content_type: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


async def run(host: str, port: int, process: str, directory: Path, parent: int) -> None:
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(each, signal.SIG_IGN)
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, is_over.set)
    registry = CollectorRegistry()
    for collector in (BuildInfo(process), Values(directory), Processes(directory)):
        registry.register(collector)
    server = await _listen(Exporter(registry), host, port)
    lock = _locked(directory)
    _delete_left_behind(directory)
    sys.stdout.write("ready\n")
    sys.stdout.close()
    while os.getppid() == parent and not is_over.is_set():  # nothing tells that it was killed
        with suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), _LOOK_EVERY_S)
    server.close()
    shutil.rmtree(directory, ignore_errors=True)
    os.close(lock)


def _locked(directory: Path) -> int:
    """Lock a directory; raise :class:`BlockingIOError` if its exporter is up."""
    file = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def _delete_left_behind(directory: Path) -> None:
    """Delete the directories of processes that were killed together with their exporter."""
    prefix = directory.name.rpartition("-")[0]
    for each in directory.parent.glob(f"{prefix}-*"):
        with suppress(OSError):  # another user's, or in use
            if each.stat().st_mtime < time.time() - _ABANDONED_S:
                lock = _locked(each)
                shutil.rmtree(each, ignore_errors=True)
                os.close(lock)


async def _listen(exporter: Exporter, host: str, port: int) -> asyncio.Server:
    for _ in range(_TRIES - 1):
        with suppress(OSError):
            return await asyncio.start_server(exporter.serve, host, port, limit=LONGEST_HEAD)
        await asyncio.sleep(_TRY_AGAIN_S)
    return await asyncio.start_server(exporter.serve, host, port, limit=LONGEST_HEAD)


def main() -> None:
    host, port, process, directory, parent = sys.argv[1:]
    try:
        asyncio.run(run(host, int(port), process, Path(directory), int(parent)))
    except OSError as error:
        sys.stdout.write(f"{os.strerror(error.errno) if error.errno else error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
