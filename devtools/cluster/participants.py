"""The model, the callers and the backends of the conversations."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from devtools.attack.internet import Desk
from devtools.attack.voice import plan
from devtools.chaos.traffic import Customer
from devtools.cluster import dialogue
from devtools.cluster.talkers import Told
from devtools.processes import ROOT, Failed

_A_SECOND = 6.0
_TALKERS = 2


@dataclass
class Reported:
    """What the model reported for a call: the kinds of use, and when each session began to hear."""

    used: Counter[str] = field(default_factory=Counter)
    hears_at: list[float] = field(default_factory=list)


class TalkingModel:
    """The process of the stand-in for OpenAI that converses, and what it reported by CallSid."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self.reported: defaultdict[str, Reported] = defaultdict(Reported)
        self._process = process
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> TalkingModel:
        process = await _python("devtools.cluster.talking_model")
        if process.stdout is None or not (port := await process.stdout.readline()):
            raise Failed("The stand-in for OpenAI that converses did not start.")
        return cls(process, int(port))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        async for told in _objects(self._process):
            reported = self.reported[told["call"]]
            if "used" in told:
                reported.used[told["used"]] += 1
            else:
                reported.hears_at.append(told["hears_at"])


@dataclass
class Talkers:
    """The processes with the people who call."""

    talking: set[str] = field(default_factory=set)
    over: list[Told] = field(default_factory=list)
    _processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    _reading: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls, customers: list[Customer], turns: int) -> Talkers:
        talkers = cls()
        for at in range(_TALKERS):
            numbers = [
                (each.line.number, each.line.twilio.sid, each.line.twilio.token)
                for each in customers[at::_TALKERS]
            ]
            told = {"numbers": numbers, "turns": turns, "a_second": _A_SECOND / _TALKERS}
            process = await _python("devtools.cluster.talkers", json.dumps(told))
            talkers._processes.append(process)
            talkers._reading.append(asyncio.create_task(talkers._read(process)))
        return talkers

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*self._reading)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        async for told in _objects(process):
            match told.pop("event"):
                case "talks":
                    self.talking.add(told["sid"])
                case "over":
                    self.over.append(Told(**told))


async def _python(module: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _objects(process: asyncio.subprocess.Process) -> Any:
    if process.stdout is not None:
        while line := await process.stdout.readline():
            yield json.loads(line)


@contextmanager
def backends(customers: Iterable[Customer]) -> Iterator[None]:
    """Let the customers' backends have these conversations, instead of what they do otherwise."""
    desks = [
        (each, each.line.desk, each.line.desk.answer, each.line.desk.tool) for each in customers
    ]
    for customer, desk, _, _ in desks:
        desk.answer, desk.tool = _starts(customer, desk), _looks_up
    try:
        yield
    finally:
        for _, desk, answer, tool in desks:
            desk.answer, desk.tool = answer, tool


def _starts(customer: Customer, desk: Desk) -> Callable[[web.Request], Awaitable[web.Response]]:
    usual = plan(customer.line.twilio, desk, model=dialogue.MODEL, tools=[dialogue.TOOL])

    async def start(request: web.Request) -> web.Response:
        sid = (await request.json())["callSid"]
        words = {"systemPrompt": dialogue.prompt(sid), "greeting": dialogue.GREETING}
        return web.json_response({**usual, **words})

    return start


async def _looks_up(request: web.Request) -> web.Response:
    number = (await request.json())["arguments"]["number"]
    return web.json_response({"result": dialogue.answer(number)})
