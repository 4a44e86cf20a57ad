"""Counts what each process asks of the database: a relay that reads PostgreSQL's protocol.

As a program, it listens on one port of 127.0.0.1 for each process, forwards to PostgreSQL's Unix
socket, and responds to each line of its standard input with the counts so far, as JSON. It exits
when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any, TextIO, cast

import uvloop

from devtools.processes import ROOT

# Requests of the startup phase that another startup message follows: for TLS or for GSS encryption.
_NEGOTIATIONS = (80_877_103, 80_877_104)
_CONTROL = re.compile(
    r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET LOCAL|LISTEN|UNLISTEN)\b", re.I
)
_VALUES = re.compile(r"E?'(?:[^']|'')*'|\b[0-9][0-9.]*\b|\$[0-9]+")
_CASTS = re.compile(r"\?::\"?\w+\"?(?:\[\])?")
_LISTS = re.compile(r"\(\s*\?(?:,\s*\?)*\s*\)")
_CHANGES = re.compile(rb"(?:INSERT 0|UPDATE|DELETE|MERGE) [1-9]")
_LOCKS = re.compile(r"\bFOR (?:NO KEY )?UPDATE\b|procrastinate_(?!fetch)\w+_v\d", re.I)


@dataclass
class Counts:
    """What one process asked.

    ``texts`` counts statements by their text without values, apart from those that begin or end a
    transaction. ``writes`` is the number of transactions that changed something or locked rows.
    """

    texts: Counter[str] = field(default_factory=Counter)
    round_trips: int = 0
    transactions: int = 0
    writes: int = 0

    @property
    def statements(self) -> int:
        return self.texts.total()

    def __sub__(self, before: Counts) -> Counts:
        return Counts(
            self.texts - before.texts,
            self.round_trips - before.round_trips,
            self.transactions - before.transactions,
            self.writes - before.writes,
        )


class Session:
    """One connection, as its messages tell: takes bytes from both ends. No I/O."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._from_client = _Messages(self._of_client, has_startup=True)
        self._from_server = _Messages(self._of_server)
        self._prepared: dict[bytes, str] = {}
        self._bound = ""
        self._asked: list[str] = []
        self._is_writing = False
        self._is_found = False
        self._is_open = False

    def client_sent(self, data: bytes) -> None:
        self._from_client.take(data)

    def server_sent(self, data: bytes) -> None:
        self._from_server.take(data)

    def refused_negotiation(self) -> None:
        """The server's one byte that is no message: it does not encrypt."""
        self._from_server.skip(1)

    @property
    def is_negotiating(self) -> bool:
        return self._from_client.is_negotiating

    def _of_client(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"Q":
                self._counts.round_trips += 1
                for text in _statements(body.rstrip(b"\0").decode(errors="replace")):
                    self._ask(text)
            case b"P":
                name, query, _ = body.split(b"\0", 2)
                self._prepared[name] = without_values(query.decode(errors="replace"))
            case b"B":
                self._bound = self._prepared.get(body.split(b"\0", 2)[1], "")
            case b"E":
                self._ask(self._bound)
            case b"S":
                self._counts.round_trips += 1

    def _ask(self, text: str) -> None:
        self._is_open = True
        if not _CONTROL.match(text):
            self._counts.texts[text] += 1
            self._asked.append(text)

    def _of_server(self, kind: bytes, body: bytes) -> None:
        if kind == b"D":
            self._is_found = body[2:6] != b"\xff\xff\xff\xff"  # a job, or a row of nulls
        elif kind == b"C":
            asks_for_job = any("procrastinate_fetch" in text for text in self._asked)
            is_locking = any(map(_LOCKS.search, self._asked)) and not body.endswith(b" 0\0")
            is_change = _CHANGES.match(body) is not None
            self._is_writing |= is_change or is_locking or (asks_for_job and self._is_found)
        elif kind == b"Z":
            self._asked.clear()
            if body == b"I" and self._is_open:
                self._counts.transactions += 1
                self._counts.writes += self._is_writing
                self._is_open = self._is_writing = False


class _Messages:
    """Splits a stream into PostgreSQL's messages."""

    def __init__(
        self, handle: Callable[[bytes, bytes], None], *, has_startup: bool = False
    ) -> None:
        self._handle = handle
        self._data = b""
        self._has_startup = has_startup
        self._skipped = 0
        self.is_negotiating = False

    def skip(self, count: int) -> None:
        self._skipped += count

    def take(self, data: bytes) -> None:
        data, self._skipped = data[self._skipped :], max(0, self._skipped - len(data))
        self._data += data
        while self._has_startup and len(self._data) >= 8:
            length, code = (int.from_bytes(self._data[at : at + 4]) for at in (0, 4))
            if len(self._data) < length:
                return
            self._data = self._data[length:]
            self.is_negotiating = code in _NEGOTIATIONS
            self._has_startup = self.is_negotiating
        while not self._has_startup and len(self._data) >= 5:
            end = 1 + int.from_bytes(self._data[1:5])
            if len(self._data) < end:
                return
            kind, body, self._data = self._data[:1], self._data[5:end], self._data[end:]
            self._handle(kind, body)


def without_values(text: str) -> str:
    """Return a statement's text, in which any value is ``?``."""
    plain = _CASTS.sub("?", _VALUES.sub("?", " ".join(text.split())))
    return _LISTS.sub("(?)", plain)


def _statements(query: str) -> list[str]:
    return [text.strip() for text in without_values(query).split(";") if text.strip()]


# The process


@dataclass(frozen=True, slots=True)
class CountingRelay:
    """The running relay; ``urls`` are the database's by process."""

    urls: Mapping[str, str]
    _process: subprocess.Popen[str]

    def counts(self) -> dict[str, Counts]:
        """Return what each process has asked so far."""
        commands, output = cast(TextIO, self._process.stdin), cast(TextIO, self._process.stdout)
        commands.write("\n")
        commands.flush()
        told: dict[str, dict[str, Any]] = json.loads(output.readline())
        return {name: Counts(Counter(one.pop("texts")), **one) for name, one in told.items()}


@contextmanager
def counting(ports: Mapping[str, int], socket: Path, database: str) -> Iterator[CountingRelay]:
    """Run the relay, with a port for each process."""
    listens = [f"{name}={port}" for name, port in ports.items()]
    command = [sys.executable, "-m", "devtools.bench.statements", str(socket), *listens]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            cast(TextIO, process.stdout).readline()  # it listens
            yield CountingRelay(
                {
                    name: f"postgresql://postgres@127.0.0.1:{port}/{database}"
                    for name, port in ports.items()
                },
                process,
            )
        finally:
            process.kill()


async def _serve(to: str, ports: Mapping[str, int]) -> None:
    counts = {name: Counts() for name in ports}
    for name, port in ports.items():

        async def take(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name
        ) -> None:
            await _relay(to, reader, writer, Session(counts[name]))

        await asyncio.start_server(take, "127.0.0.1", port, backlog=512)
    print("listening", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps({name: vars(one) for name, one in counts.items()}), flush=True)


async def _relay(
    to: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session
) -> None:
    inner_reader, inner_writer = await asyncio.open_unix_connection(to)

    def of_client(data: bytes) -> None:
        session.client_sent(data)
        if session.is_negotiating:
            session.refused_negotiation()

    inwards = asyncio.create_task(_pump(reader, inner_writer, of_client))
    await _pump(inner_reader, writer, session.server_sent)
    inwards.cancel()
    inner_writer.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tell: Callable[[bytes], None]
) -> None:
    with suppress(OSError):
        while data := await reader.read(256 << 10):
            writer.write(data)
            tell(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    _ports = dict(argument.split("=") for argument in sys.argv[2:])
    uvloop.run(_serve(sys.argv[1], {name: int(port) for name, port in _ports.items()}))
