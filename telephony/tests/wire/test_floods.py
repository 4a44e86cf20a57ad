"""Floods from clients without a ticket, as fast as the network allows."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from core.tests.waiting import until
from telephony.voice.media import MediaListener
from telephony.voice.unadmitted import MOST_OF_ONE_NETWORK

POLICY_VIOLATION = b"\x03\xf0"
FLOOD_BYTES = 8 << 20
MEDIA = b'{"event":"media","media":{"payload":"%b"}}' % (b"/" * 60)
TEXT, PING, PONG = 0x81, 0x89, 0x8A
FLOODS = [
    (TEXT, b"{}"),
    (TEXT, b"1"),
    (TEXT, b'{"event":"start"}'),
    (TEXT, MEDIA),
    (PING, b"p" * 125),
    (PONG, b""),
]


@contextmanager
def upgraded(port: int, *, seen_as: str = "192.0.2.1") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
        key = base64.b64encode(os.urandom(16)).decode()
        head = "GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        head += f"X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: {seen_as}\r\n\r\n"
        connected.sendall(head.encode())
        assert connected.recv(4096).startswith(b"HTTP/1.1 101")
        yield connected


def flood(port: int, first: int, message: bytes) -> int:
    """Send without reading until the limit; return how many bytes were accepted."""
    frame = bytes([first, 0x80 | len(message)]) + bytes(4) + message  # masked with zeros
    frames, sent = frame * (FLOOD_BYTES // len(frame)), 0
    with upgraded(port) as connected:
        connected.settimeout(0.5)
        try:
            while sent < len(frames):
                sent += connected.send(frames[sent : sent + 65_536])
        except TimeoutError:  # it is no longer read
            assert POLICY_VIOLATION in connected.recv(65_536)
    return sent


async def none_waits(media: MediaListener) -> None:
    await until(lambda: not media.waiting)


async def longest_turn(until: asyncio.Future[list[int]]) -> float:
    """Return the longest turn of the event loop, in seconds.

    It measures the thread's own time, since the machine may be busy with others.
    """
    longest, last = 0.0, time.thread_time()
    while not until.done():
        await asyncio.sleep(0)
        longest, last = max(longest, time.thread_time() - last), time.thread_time()
    return longest


async def test_floods_are_not_read_and_leave_the_loop_to_others(world):
    port = world.media.port
    flooding = asyncio.gather(*(asyncio.to_thread(flood, port, *one) for one in FLOODS))
    longest = await longest_turn(flooding)
    assert max(await flooding) < FLOOD_BYTES
    assert longest < 0.05
    await none_waits(world.media)


async def test_one_address_leaves_room_for_others(world, settings):
    settings.TRUSTED_PROXIES = 1
    port = world.media.port

    def is_closed(connected: socket.socket) -> bool:
        connected.settimeout(0.05)
        try:
            return POLICY_VIOLATION in connected.recv(4096)
        except TimeoutError:
            return False

    def fill() -> tuple[bool, bool, bool]:
        with ExitStack() as stack:
            other = stack.enter_context(upgraded(port, seen_as="203.0.113.9"))
            many = [stack.enter_context(upgraded(port)) for _ in range(MOST_OF_ONE_NETWORK + 1)]
            return is_closed(many[0]), is_closed(many[1]), is_closed(other)

    assert await asyncio.to_thread(fill) == (True, False, False)
    await none_waits(world.media)
