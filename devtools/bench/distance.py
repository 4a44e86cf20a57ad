"""A network between two ports of this machine, with a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 64 << 10


@asynccontextmanager
async def far_away(port: int, *, to: int, round_trip_s: float) -> AsyncIterator[None]:
    """Serve at ``port`` what is at the port ``to``, a round trip away.

    A connection is accepted at once, as it is not across a network: so what its client sends first
    is held back for a round trip more.
    """
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.create_task(carry_both(reader, writer)))
        task.add_done_callback(tasks.discard)

    async def carry_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted_at = asyncio.get_running_loop().time() + round_trip_s
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        try:
            await asyncio.gather(
                _carry(reader, far_writer, round_trip_s / 2, accepted_at),
                _carry(far_reader, writer, round_trip_s / 2, accepted_at),
            )
        finally:
            writer.close()
            far_writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", port):
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, not_before: float
) -> None:
    """Write all that is read, each piece after its delay, and then the end."""
    clock = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, piece = await under_way.get()
            await asyncio.sleep(due - clock())
            if not piece:
                with suppress(OSError):  # the other end may have gone
                    writer.write_eof()
                return
            writer.write(piece)

    arriving = asyncio.create_task(arrive())
    try:
        while True:
            piece = await _read(reader)
            under_way.put_nowait((max(clock(), not_before) + delay_s, piece))
            if not piece:
                break
        await arriving
    finally:
        arriving.cancel()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return what has arrived, or nothing at the end."""
    try:
        return await reader.read(_CHUNK)
    except ConnectionError:
        return b""
