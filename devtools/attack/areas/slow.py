"""Slow clients, past the proxy: single bytes, or a million pieces, must not block others."""

from __future__ import annotations

import asyncio
import contextlib
import time

from core import request_limits
from devtools.attack.context import Context
from devtools.attack.product import ENGINE, MEDIA, WEB
from devtools.attack.report import Notes
from devtools.attack.web import Client

NEEDS_NETWORK = False

CONNECTIONS = 24  # three per thread of the web process
CROWD = 1000
_ANSWERED_WITHIN_S = 4.0
_LONGEST_BLOCK_S = 0.6
_MAY_GROW = 100 << 20
_HEAD = "Host: {host}\r\nX-Forwarded-Proto: https\r\nContent-Type: application/json\r\n"


async def attack(context: Context, notes: Notes) -> None:
    servers = {"web": (context.web, WEB), "engine": (context.engine, ENGINE)}
    for name, (client, port) in servers.items():
        for what, start, piece in _ways(client.host)[:: 3 if context.is_short else 1]:
            await _hold(context, notes, name, client, port, what, start, piece)
    await _hold(
        context, notes, "engine", context.engine, MEDIA, "a slow upgrade", b"GET /media", b"a"
    )
    for name, (client, port) in servers.items():
        await _crowd(notes, name, client, port)
    await _crowd(notes, "engine", context.engine, MEDIA)
    await _send_pieces(context, notes)
    await _send_much(context, notes)


def _ways(host: str) -> list[tuple[str, bytes, bytes]]:
    """Return ways to hold a connection: the first bytes, and those sent every second."""
    head = _HEAD.format(host=host)
    post = f"POST /api/auth/login HTTP/1.1\r\n{head}"
    chunked = f"{post}Transfer-Encoding: chunked\r\n\r\n"
    voice = f"POST /voice HTTP/1.1\r\n{head}Content-Length: 100000\r\n\r\n"
    return [
        ("no request at all", b"", b""),
        ("a slow first line", b"GET /liv", b"e"),
        ("slow headers", f"GET /livez HTTP/1.1\r\n{head}".encode(), b"X-A: b\r\n"),
        ("a slow body", f"{post}Content-Length: 100000\r\n\r\n".encode(), b"x"),
        ("a slow form", voice.encode(), b"a=b&"),
        ("slow chunks", chunked.encode(), b"1\r\nx\r\n"),
        ("a chunk without an end", f"{chunked}fffff\r\n".encode(), b"x"),
    ]


async def _hold(
    context: Context,
    notes: Notes,
    name: str,
    client: Client,
    port: int,
    what: str,
    start: bytes,
    piece: bytes,
) -> None:
    """Open slow connections, and send an ordinary request meanwhile."""
    opened = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS))
    )
    writers = [writer for _, writer in opened]
    _send(writers, start)
    is_held = False
    for _ in range(2 if context.is_short else 4):
        await asyncio.sleep(0.5)
        _send(writers, piece)
        for path in ("/livez", "/login"):
            answer = await client.ask("GET", path, patience=6)
            is_held |= not notes.expect(
                "Slow connections do not delay others.",
                answer.status == 200 and answer.seconds < _ANSWERED_WITHIN_S,
                sent=f"{CONNECTIONS} connections to {name} with {what}, then GET {path}",
                came=f"{answer.seconds:.1f} s, {answer.status} {answer.text[:60]}",
            )
        if is_held:  # it would not recover
            break
    for writer in writers:
        writer.close()
    await asyncio.sleep(0.2)


async def _crowd(notes: Notes, name: str, client: Client, port: int) -> None:
    """Open many silent or half-finished connections, and count those that are kept."""
    halves = (b"", b"GET /media HTTP/1.1\r\nHost: x\r\n")
    opened = []
    for number in range(CROWD):
        with contextlib.suppress(OSError):
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            opened[-1][1].write(halves[number % 2])
    answer = await client.ask("GET", "/livez", patience=6)
    notes.expect(
        "Many connections do not delay others.",
        answer.status == 200 and answer.seconds < _ANSWERED_WITHIN_S,
        sent=f"{CROWD} connections to {name}'s port {port} that say nothing, then GET /livez",
        came=f"{answer.seconds:.1f} s, {answer.status} {answer.text[:60]}",
    )
    kept = sum(not reader.at_eof() and reader.exception() is None for reader, _ in opened)
    notes.expect(
        "Of many connections, the oldest are closed.",
        kept <= request_limits.WAITING + 1,
        sent=f"{CROWD} connections to {name}'s port {port} that say nothing",
        came=f"{kept} are kept",
    )
    for _, writer in opened:
        writer.close()


def _send(writers: list[asyncio.StreamWriter], data: bytes) -> None:
    for writer in writers:
        with contextlib.suppress(OSError, RuntimeError):
            writer.write(data)


async def _send_pieces(context: Context, notes: Notes) -> None:
    """A body in a million one-byte chunks must not keep the engine's loop busy."""
    head = _HEAD.format(host=context.engine.host)
    start = f"POST /voice HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode()
    longest, late = 0.0, 0.0
    sending = asyncio.create_task(_pour(ENGINE, start, b"1\r\nx\r\n" * 1000, times=1000))
    while not sending.done():
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        late = max(late, time.monotonic() - due)
        answer = await context.engine.ask("GET", "/livez", patience=20)
        longest = max(longest, answer.seconds)
    notes.expect(
        "A million chunks do not delay others.",
        longest - late < _LONGEST_BLOCK_S,
        sent="POST /voice in 1,000,000 chunks of a byte",
        came=f"another request took {longest:.2f} s (we were late by {late:.2f} s)",
    )


async def _send_much(context: Context, notes: Notes) -> None:
    """A body of 64 MB is neither read to its end nor kept."""
    for name, client, port in (
        ("web", context.web, WEB),
        ("engine", context.engine, ENGINE),
    ):
        process = context.product.processes[name]
        before, worker = process.memory(), process.worker()
        head = _HEAD.format(host=client.host)
        for framing in ("Content-Length: 67108864", "Transfer-Encoding: chunked"):
            for path in ("/api/auth/login", "/voice", "/login")[: 1 if context.is_short else 3]:
                start = f"POST {path} HTTP/1.1\r\n{head}{framing}\r\n\r\n".encode()
                piece = b"x" * 65_536
                if "chunked" in framing:
                    piece = b"10000\r\n" + piece + b"\r\n"
                peak = await _pour(port, start, piece, times=1024, watch=process.memory)
                notes.expect(
                    "A large body is not kept.",
                    peak - before < _MAY_GROW,
                    sent=f"POST {path} of 64 MB to {name}, {framing}",
                    came=f"{(peak - before) >> 20} MiB more",
                )
        notes.expect("The worker survives.", process.worker() == worker, sent=f"64 MB to {name}")


async def _pour(port: int, start: bytes, piece: bytes, *, times: int, watch: object = None) -> int:
    """Send until the other side closes; return the maximum of ``watch``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    most = 0
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(20):
            writer.write(start)
            for number in range(times):
                writer.write(piece)
                await writer.drain()
                if callable(watch) and number % 64 == 0:
                    most = max(most, watch())
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            await reader.read(64)
    if callable(watch):
        most = max(most, watch())
    writer.close()
    return most
