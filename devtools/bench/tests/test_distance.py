"""The simulated network: it delays, and changes nothing."""

from __future__ import annotations

import asyncio

from devtools.bench.distance import far_away
from devtools.ports import free_ports

ROUND_TRIP_S = 0.04


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(100):
        writer.write(piece)
    writer.close()


async def test_a_first_response_takes_two_round_trips_and_a_later_one_takes_one() -> None:
    clock = asyncio.get_running_loop().time
    [port] = free_ports(1)
    async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
        to = server.sockets[0].getsockname()[1]
        async with far_away(port, to=to, round_trip_s=ROUND_TRIP_S):
            began = clock()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            assert clock() - began >= 2 * ROUND_TRIP_S
            began = clock()
            writer.write(b"two")
            writer.write(b"three")
            writer.write_eof()
            assert await reader.read() == b"twothree"
            assert clock() - began >= ROUND_TRIP_S
            writer.close()
