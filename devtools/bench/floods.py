"""``bin/bench floods``: what calls notice when strangers flood the engine's media port.

Some calls speak through the engine, 50 frames a second each way. Another process sends one kind of
flood after another, as fast as the engine accepts it, and reopens closed sockets. It measures the
longest gap between two frames that a caller hears, compared with the same calls without
a flood, and the memory that the engine uses.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import TextIO, cast

import uvloop

from devtools.bench import frames, load, relays

GOOD_MS = 100.0
MAY_GROW = 64 << 20
NOTHING = "nothing"
_PIECE = 64 << 10
_TEXT, _BINARY, _CLOSE, _PING, _PONG, _CONTINUATION = 1, 2, 8, 9, 10, 0
_HEAD = (
    b"GET /media HTTP/1.1\r\nHost: engine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
_UPGRADE = _HEAD + b"\r\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """A number of sockets, each of which sends ``first`` and then ``again`` forever."""

    sockets: int
    first: bytes
    again: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The measurements of calls and engine during a flood."""

    gap_ms: float
    lost: int
    grown: int
    busy: float
    load_late_ms: float


def main() -> None:
    options = _options()
    if options.of:
        _pour(_floods()[options.of], options.port)
        return
    names = [NOTHING, *(name for name in _floods() if options.only in name)]
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    found = uvloop.run(_measure(names, options.calls, options.seconds, cores[-1]))
    bad = [name for name, one in found.items() if one.gap_ms > GOOD_MS or one.grown > MAY_GROW]
    print(f"\n{'OVER: ' + ', '.join(bad) if bad else 'All'} {GOOD_MS:.0f} ms and 64 MB.")
    sys.exit(bool(bad))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench floods", description=__doc__)
    parser.add_argument("--calls", type=int, default=20, help="concurrent calls (20)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds per flood (5)")
    parser.add_argument("--only", default="", help="only floods with this text in their name")
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.calls < 1 or options.seconds <= 0:
        parser.error("calls and seconds must be more than 0")
    return options


def _floods() -> Mapping[str, Flood]:
    media = frames.media_head(1) + b"0" * frames.STAMP + frames.media_tail(1)
    often = _often
    return {
        "pings, never read": Flood(20, _UPGRADE, often(_frame(_PING, b"p" * 125))),
        "pongs": Flood(5, _UPGRADE, often(_frame(_PONG, b""))),
        "closes": Flood(5, _UPGRADE, often(_frame(_CLOSE, b"\x03\xe8"))),
        "no JSON": Flood(5, _UPGRADE, often(_frame(_TEXT, b"x"))),
        "empty messages": Flood(5, _UPGRADE, often(_frame(_BINARY, b""))),
        "large messages": Flood(5, _UPGRADE, often(_frame(_TEXT, b"[" * 60_000))),
        "fragments": Flood(
            5,
            _UPGRADE + _frame(_TEXT, b"", fin=False),
            often(_frame(_CONTINUATION, b"", fin=False)),
        ),
        "media before start": Flood(5, _UPGRADE, often(_frame(_TEXT, media))),
        "media after start": Flood(
            5, _UPGRADE + _frame(_TEXT, frames.start(1)), often(_frame(_TEXT, media))
        ),
        "pings after start": Flood(
            5, _UPGRADE + _frame(_TEXT, frames.start(1)), often(_frame(_PING, b"p" * 125))
        ),
        "no protocol": Flood(5, _UPGRADE, b"\xff" * _PIECE),
        "idle connections": Flood(1000, b"", b""),
        "half an upgrade": Flood(1000, _HEAD, b""),
        "upgrades that say nothing": Flood(1000, _UPGRADE, b""),
        "huge headers": Flood(100, _HEAD + b"X-A: ", b"a" * _PIECE),
    }


def _frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([fin << 7 | opcode]) + length + bytes(4) + payload


def _often(frame: bytes) -> bytes:
    return frame * max(1, _PIECE // len(frame))


# The flood: a process of its own, with a lower priority than the calls.


def _pour(flood: Flood, port: int) -> None:
    """Send until the parent exits."""
    os.nice(10)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for _ in range(flood.sockets):
            _open(selector, flood, port)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                if not key.data():
                    selector.unregister(key.fileobj)
                    cast(socket.socket, key.fileobj).close()
                    _open(selector, flood, port)


def _open(selector: selectors.BaseSelector, flood: Flood, port: int) -> None:
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setblocking(False)
    event = selectors.EVENT_WRITE if flood.first or flood.again else selectors.EVENT_READ
    step = _Stranger(selector, connected, flood).go_on
    selector.register(connected, event, step)


class _Stranger:
    def __init__(
        self, selector: selectors.BaseSelector, connected: socket.socket, flood: Flood
    ) -> None:
        self._selector = selector
        self._socket = connected
        self._again = flood.again
        self._unsent = flood.first or flood.again

    def go_on(self) -> bool:
        """Send more, or wait for the end; return False at the end."""
        try:
            if not self._unsent:
                return self._socket.recv(_PIECE) != b""
            self._unsent = self._unsent[self._socket.send(self._unsent) :] or self._again
            if not self._unsent:
                self._selector.modify(self._socket, selectors.EVENT_READ, self.go_on)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


# The calls


async def _measure(names: list[str], calls: int, seconds: float, core: int) -> Mapping[str, Found]:
    found = {}
    print(f"{'':28}{'longest gap':>12}{'lost':>8}{'memory':>12}{'engine':>9}{'load late':>12}")
    async with load.ModelServer() as model:
        for name in names:
            with relays.running(relays.ENGINE, core=core, model_url=model.url) as engine:
                one = found[name] = await _beside(name, engine, calls, seconds)
            print(
                f"{name:28}{one.gap_ms:9.1f} ms{one.lost:8}{one.grown / (1 << 20):9.1f} MB"
                f"{one.busy:9.0%}{one.load_late_ms:9.1f} ms",
                flush=True,
            )
    return found


async def _beside(name: str, engine: relays.Relay, calls: int, seconds: float) -> Found:
    callers = load.Callers(calls)
    await callers.call(engine.port)
    with callers.speaking():
        await asyncio.sleep(1.5)  # until all of them speak
        before, cpu = engine.memory(), engine.cpu_seconds()
        begin = load.now()
        callers.tally.window = (begin, begin + round(seconds * 1e6))
        with _flooding(name, engine.port):
            most = await _most_memory(engine, begin + seconds * 1e6)
            cpu = engine.cpu_seconds() - cpu
        await asyncio.sleep(0.5)
    await callers.hang_up()
    tally = callers.tally
    return Found(
        gap_ms=tally.longest_gap / 1000,
        lost=tally.sent - len(tally.round_trips),
        grown=most - before,
        busy=cpu / seconds,
        load_late_ms=max(tally.lateness) / 1000,
    )


async def _most_memory(engine: relays.Relay, until: float) -> int:
    most = 0
    while load.now() < until:
        most = max(most, engine.memory())
        await asyncio.sleep(0.1)
    return most


@contextmanager
def _flooding(name: str, port: int) -> Iterator[None]:
    if name == NOTHING:
        yield
        return
    command = [sys.executable, "-m", "devtools.bench.floods", f"--of={name}", f"--port={port}"]
    with subprocess.Popen(command, stdin=PIPE, text=True) as process:
        try:
            yield
        finally:
            cast(TextIO, process.stdin).close()
            process.kill()


if __name__ == "__main__":
    main()
