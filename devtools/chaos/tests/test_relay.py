"""The relay to the database, tested with another server behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devtools.chaos.relay import Relay


@asynccontextmanager
async def relay_to_an_echo(folder: Path) -> AsyncIterator[Relay]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(100):
            writer.write(said)
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    relay = Relay(port, folder / "socket")
    async with await asyncio.start_unix_server(echo, folder / "socket"):
        relay.begin()
        await relay.until_ready()
        try:
            yield relay
        finally:
            relay.cut()


async def answer(reader: asyncio.StreamReader, *, within: float = 10.0) -> bytes:
    return await asyncio.wait_for(reader.read(100), within)


async def test_a_hang_delays_and_a_cut_closes(tmp_path: Path) -> None:
    async with relay_to_an_echo(tmp_path) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"one")
        assert await answer(reader) == b"one"
        relay.hang()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await answer(reader, within=0.3)
        relay.go_on()
        assert await answer(reader) == b"two"
        relay.cut()
        assert await _is_closed(reader)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", relay.port)
        writer.close()


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    """Return True if the other side has closed, with or without a reset."""
    try:
        return await answer(reader) == b""
    except ConnectionError:
        return True
