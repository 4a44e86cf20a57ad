"""Processes that start and end together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

ROOT = Path(__file__).resolve().parent.parent

# How many seconds processes have to exit before they are killed.
_GRACE_S = 8.0


_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int, *, with_ended: bool = False) -> float:
    """Return the CPU time of a process; 0 if it has ended.

    :param with_ended: also count its children that have ended.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / _TICKS


class Failed(Exception):
    """A failure, described in one sentence."""


class Processes:
    """The processes of a run. Leaving the ``async with`` ends them and their children."""

    def __init__(self, output: TextIO, *, grace: float = _GRACE_S) -> None:
        self._output = output
        self._grace = grace
        self._children: list[_Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        running = [child for child in self._children if not child.ended.done()]
        for child in running:
            child.process.terminate()
        if running:
            await asyncio.wait([child.ended for child in running], timeout=self._grace)
        self.kill()
        if self._children:
            await asyncio.wait([child.ended for child in self._children], timeout=self._grace)
            await asyncio.wait([child.output for child in self._children], timeout=self._grace)

    def kill(self) -> None:
        """Kill every process and its children immediately."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)

    async def start(self, name: str, *command: str) -> None:
        """Start a process that keeps running; its name precedes each line of its output."""
        await self._start(name, command, lasts=True)

    async def run(self, name: str, *command: str, own_output: bool = False) -> None:
        """Run a process to its end; raise :class:`Failed` unless its status is 0.

        With ``own_output``, it writes directly to our standard output.
        """
        child = await self._start(name, command, own_output=own_output)
        await asyncio.wait([child.ended])
        await asyncio.wait([child.output])
        if child.process.returncode:
            raise Failed(child.how_it_ended)

    async def unless_one_ends(self, work: Coroutine[Any, Any, object]) -> None:
        """Await the work; raise :class:`Failed` as soon as a started process exits."""
        lasting = [child for child in self._children if child.lasts]
        task = asyncio.ensure_future(work)
        ends: list[asyncio.Future[Any]] = [task, *(child.ended for child in lasting)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for child in lasting:
                if child.ended.done():
                    raise Failed(child.how_it_ended)
            task.result()
        finally:
            task.cancel()

    def say(self, name: str, line: str) -> None:
        try:
            self._output.write(f"{name:<8}| {line}\n")
            self._output.flush()
        except OSError:  # nobody reads it any more
            signal.raise_signal(signal.SIGHUP)

    async def _start(
        self, name: str, command: Sequence[str], *, lasts: bool = False, own_output: bool = False
    ) -> _Child:
        # Not asyncio's pipe: with that, a process counts as running as long as its children do.
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if own_output else write_end,
                stderr=None if own_output else write_end,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                # A group that can be killed as one. Ctrl-C in the terminal reaches us alone.
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        child = _Child(
            name,
            process,
            ended=asyncio.ensure_future(process.wait()),
            output=asyncio.ensure_future(self._pass_on(name, read_end)),
            lasts=lasts,
        )
        self._children.append(child)
        return child

    async def _pass_on(self, name: str, read_end: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
        rest = b""
        while chunk := await reader.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.say(name, line.decode(errors="replace"))
        if rest:
            self.say(name, rest.decode(errors="replace"))
        transport.close()


@dataclass
class _Child:
    name: str
    process: asyncio.subprocess.Process
    ended: asyncio.Future[int]
    output: asyncio.Future[None]
    lasts: bool

    @property
    def how_it_ended(self) -> str:
        status = self.process.returncode or 0
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        return f"{self.name} ended with {how}."
