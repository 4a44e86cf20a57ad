"""The TLS proxy of the run: in front of the product, and of every server in its network.

It listens on every address at once, and records the addresses that connections went to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping

from devtools.attack.namespace import PUBLIC, PUBLIC_6

_LONGEST_HEAD = 64 << 10
_PATIENCE_S = 60.0


class TlsProxy:
    """``upstreams`` maps each host, or host and path such as ``a.b/voice``, to a port."""

    def __init__(self, context: ssl.SSLContext, upstreams: Mapping[str, int]) -> None:
        self._context = context
        self._upstreams = upstreams
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.touched: list[tuple[str, int]] = []

    async def start(
        self,
        *,
        tls_port: int = 443,
        traps: tuple[int, ...] = (80, 8443),
        address: str | None = None,
    ) -> None:
        """Listen on all addresses, or on one only."""
        self._servers.append(await asyncio.start_server(self._take, address, tls_port))
        for port in traps:
            self._servers.append(await asyncio.start_server(self._note, None, port))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def private_addresses(self) -> list[tuple[str, int]]:
        """Return the connections to addresses that the product must not connect to."""
        return [each for each in self.touched if not each[0].startswith((PUBLIC, PUBLIC_6))]

    async def _note(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port, *_ = writer.get_extra_info("sockname")
        self.touched.append((host.removeprefix("::ffff:"), port))
        writer.close()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port, *_ = writer.get_extra_info("sockname")
        self.touched.append((host.removeprefix("::ffff:"), port))
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, ssl.SSLError):
            async with asyncio.timeout(_PATIENCE_S):
                await writer.start_tls(self._context)
                head = await reader.readuntil(b"\r\n\r\n")
            if len(head) < _LONGEST_HEAD:
                await self._pass_on(head, reader, writer)
        writer.close()

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = writer.get_extra_info("peername")[0]
        upstream = self._upstream(head)
        if upstream is None:
            writer.write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", upstream)
        inner_writer.write(forwarded(head, peer))
        try:
            await _both_ways(reader, writer, inner_reader, inner_writer)
        finally:
            inner_writer.close()

    def _upstream(self, head: bytes) -> int | None:
        line, *lines = head.decode("latin-1").split("\r\n")
        path = line.split(" ")[1].partition("?")[0] if line.count(" ") == 2 else "/"
        fields = (each.partition(":") for each in lines)
        host = next((value.strip() for name, _, value in fields if name.lower() == "host"), "")
        first = "/" + path.strip("/").partition("/")[0]
        return self._upstreams.get(host + first, self._upstreams.get(host))


def forwarded(head: bytes, peer: str) -> bytes:
    """Return a request's head as a proxy forwards it: one request per connection."""
    line, _, rest = head.partition(b"\r\n")
    ours = f"X-Forwarded-Proto: https\r\nX-Forwarded-For: {peer}\r\n".encode()
    if b"\r\nupgrade:" not in head.lower():
        fields = rest.split(b"\r\n")
        kept = [each for each in fields if not each.lower().startswith(b"connection:")]
        rest, ours = b"\r\n".join(kept), ours + b"Connection: close\r\n"
    return line + b"\r\n" + ours + rest


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    inner_reader: asyncio.StreamReader,
    inner_writer: asyncio.StreamWriter,
) -> None:
    """Forward bytes until the upstream closes."""
    inwards = asyncio.create_task(_pump(reader, inner_writer))
    try:
        await _pump(inner_reader, writer)
    finally:
        inwards.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(64 << 10):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
