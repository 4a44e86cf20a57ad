"""What somebody without a ticket may send as quickly as the network takes it."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FLOOD_BYTES = 8 << 20


@contextmanager
def upgraded(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
        key = base64.b64encode(os.urandom(16)).decode()
        head = "GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        connected.sendall(head.encode())
        assert connected.recv(4096).startswith(b"HTTP/1.1 101")
        yield connected


def flood(port: int, message: bytes) -> None:
    frame = bytes([0x81, 0x80 | len(message)]) + bytes(4) + message  # masked with zeros
    with upgraded(port) as connected:
        connected.sendall(frame * (FLOOD_BYTES // len(frame)))
        connected.shutdown(socket.SHUT_WR)
        while connected.recv(4096):  # all of it was read then
            pass


async def longest_turn(until: asyncio.Future[None]) -> float:
    """Return for how much of its time the event loop let nobody else have a turn, in seconds.

    It is the thread's own time that counts: the machine may have others to serve.
    """
    longest, last = 0.0, time.thread_time()
    while not until.done():
        await asyncio.sleep(0)
        longest, last = max(longest, time.thread_time() - last), time.thread_time()
    return longest


@pytest.mark.parametrize("message", [b"{}", b"1", b'{"event":"start"}'])
async def test_many_small_messages_leave_the_loop_to_others(world, message):
    flooding = asyncio.ensure_future(asyncio.to_thread(flood, world.media.port, message))
    longest = await longest_turn(flooding)
    await flooding
    assert longest < 0.05
