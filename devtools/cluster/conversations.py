"""The same conversations three times: untouched, with every engine restarted, with one killed.

Each call is compared with the one of the same number that nothing disturbed: what was said, what
the backend was asked, how long it lasted, and what it cost. The silence of a move is the time from
the end of the call's old stream until the model hears the caller again, in its new session.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from devtools.attack.internet import Desk
from devtools.attack.voice import plan
from devtools.attack.web import PublicClient
from devtools.chaos.report import Notes
from devtools.chaos.traffic import Customer
from devtools.chaos.waiting import until
from devtools.cluster import dialogue
from devtools.cluster.restarts import begin, restart
from devtools.cluster.system import CallOutside, Cluster, percentile
from devtools.cluster.talkers import Told
from devtools.processes import ROOT, Failed
from telephony.engine.costs import openai_cost

#: The longest that 95% of all moves may keep caller and model apart.
MOST_SILENCE_S = 1.5
# Between a caller's first sound and the model's report of it, which takes a tenth of a second, a
# call still seems to be at rest. If it moves then, its caller has to say that again. These callers
# rest for little more than a second at a time, so that is not rare; it must not be the rule.
_MOST_AGAIN = 0.25
_A_SECOND = 6.0
_TALKERS = 2
_TALKING_WITHIN_S = 60.0
_OVER_WITHIN_S = 120.0

_ENGINES_OF = """
    SELECT call.call_sid, process.pid FROM telephony_call AS call
    JOIN telephony_engine AS process ON process.id = call.engine_id
    WHERE call.call_sid = ANY(%s) AND call.ended_at IS NULL
"""

Line = tuple[str, str]


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
class Talk:
    """A conversation, seen from all sides: its caller, the model, the backend, the API.

    ``lines`` is the transcript, ``tools`` how often the backend was asked by number, ``results``
    what came of it.
    """

    told: Told
    reported: Reported
    lines: list[Line] = field(default_factory=list)
    tools: Counter[int] = field(default_factory=Counter)
    results: list[str] = field(default_factory=list)
    duration: int = 0
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def silences(self) -> list[float | None]:
        """The silence of each move, in seconds; None if the model never heard the caller again."""
        return [_after(at, self.reported.hears_at) for at in self.told.closed[:-1]]

    @property
    def asked_again(self) -> int:
        """Return how many questions had to be asked again because the call moved."""
        return len(self.told.cut) + len(self.told.again)

    @property
    def used(self) -> float:
        """What all that the model reported costs, in USD."""
        return float(openai_cost(dialogue.MODEL, dialogue.all_used(self.reported.used.elements())))


def _after(at: float, moments: Iterable[float]) -> float | None:
    return min((moment - at for moment in moments if moment > at), default=None)


@dataclass(frozen=True, slots=True)
class TalkRow:
    """The result of one run; times in seconds, ``cost`` OpenAI's in USD."""

    run: str
    talks: int
    moves: int
    cut: int
    whole: int
    lost: int
    again: int
    asked: int
    answered: int
    seconds: int
    cost: float
    silence: tuple[float, float, float]
    wait: tuple[float, float]

    @classmethod
    def head(cls) -> str:
        return (
            f"{'run':12}{'calls':>6}{'moves':>6}{'cut':>5}{'whole':>7}{'lost turns':>12}"
            f"{'asked again':>13}{'tools asked, answered':>23}{'seconds':>9}{'USD':>10}"
            f"{'silence p50, p95, most':>25}{'answer p50, most':>18}"
        )

    def __str__(self) -> str:
        silence = ", ".join(f"{each:.2f}" for each in self.silence)
        wait = ", ".join(f"{each:.1f}" for each in self.wait)
        return (
            f"{self.run:12}{self.talks:6}{self.moves:6}{self.cut:5}{self.whole:7}{self.lost:12}"
            f"{self.again:13}{f'{self.asked}, {self.answered}':>23}{self.seconds:9}"
            f"{self.cost:10.6f}{f'{silence} s':>25}{f'{wait} s':>18}"
        )


async def conversations(cluster: Cluster, notes: Notes, model: TalkingModel) -> list[TalkRow]:
    """Have the conversations three times; return a row for each."""
    turns = cluster.options.turns
    runs = _Runs(cluster, notes, model, cluster.options.talks, turns)
    with _backends(cluster.load.customers):
        untouched = await runs.have(_measure)
        runs.expect_whole(untouched)
        restarted = await runs.have(_restart)
        runs.expect_whole(restarted)
        runs.expect_equal(restarted, untouched)
        runs.expect_few_repetitions(restarted)
        runs.expect_short_silences("a restarted engine's", restarted)
        killed = await runs.have(_kill)
        lost = [talk for talk in killed if len(talk.told.opened) > 1]
        notes.measure("calls of the killed engine", len(lost))
        notes.expect("The killed engine had calls.", bool(lost))
        rest = {id(talk) for talk in killed} - {id(talk) for talk in lost}
        runs.expect_whole([talk for talk in killed if id(talk) in rest])
        runs.expect_nearly_whole(lost)
        runs.expect_equal(killed, untouched, nearly=lost)
        runs.expect_short_silences("a killed engine's", killed)
    names = ("untouched", "restarted", "killed")
    return [
        _row(name, talks, turns)
        for name, talks in zip(names, (untouched, restarted, killed), strict=True)
    ]


# What happens meanwhile


async def _measure(cluster: Cluster, notes: Notes, sids: list[str]) -> None:
    """Leave the calls alone, and report what each process uses."""
    await cluster.measure(notes, dialogue.lasts(cluster.options.turns) / 2)


async def _restart(cluster: Cluster, notes: Notes, sids: list[str]) -> None:
    """Restart every engine, one after the other, as a deploy does."""
    for name in cluster.engines:
        await restart(cluster, notes, name)


async def _kill(cluster: Cluster, notes: Notes, sids: list[str]) -> None:
    """Kill the engine that has the most of the calls, and start it again."""
    pids = Counter(pid for _, pid in await cluster.system.query(_ENGINES_OF, sids))
    name = max(cluster.engines, key=lambda each: pids[cluster.processes[each].worker()])
    popen = cluster.processes[name].popen
    os.killpg(popen.pid, signal.SIGKILL)
    popen.wait(10)
    await begin(cluster, name)


Disturbance = Callable[[Cluster, Notes, list[str]], Awaitable[None]]


@dataclass
class _Runs:
    cluster: Cluster
    notes: Notes
    model: TalkingModel
    count: int
    turns: int

    async def have(self, disturb: Disturbance) -> list[Talk]:
        """Have all conversations while something happens; return them in the same order always."""
        talkers = await _Talkers.start(self._customers(), self.turns)
        try:
            if not await until(
                lambda: len(talkers.talking) == self.count, within=_TALKING_WITHIN_S
            ):
                raise Failed(f"Of {self.count} callers, {len(talkers.talking)} talk.")
            await disturb(self.cluster, self.notes, list(talkers.talking))
            self.notes.expect(
                "Nothing ends before what happens to the engines does.",
                not talkers.over,
                came=[each.why for each in talkers.over],
            )
            within = dialogue.lasts(self.turns) + _OVER_WITHIN_S
            if not await until(lambda: len(talkers.over) == self.count, within=within):
                raise Failed(f"Of {self.count} conversations, {len(talkers.over)} have ended.")
        finally:
            await talkers.stop()
        told = sorted(talkers.over, key=lambda each: (each.number, each.rang_at))
        await self.cluster.check(self.notes, [_from_outside(each) for each in told], {})
        return [await self._talk(each) for each in told]

    def _customers(self) -> list[Customer]:
        customers = self.cluster.load.customers
        return [customers[at % len(customers)] for at in range(self.count)]

    async def _talk(self, told: Told) -> Talk:
        """Collect what the model, the backend and the API know of a call."""
        (customer,) = (
            each for each in self.cluster.load.customers if each.line.number == told.number
        )
        talk = Talk(told, self.model.reported[told.sid])
        desk = customer.line.desk
        for body in desk.to("end"):
            if body["callSid"] == told.sid:
                talk.lines = [(line["role"], line["text"]) for line in body["transcript"]]
                talk.results = [run["result"] for run in body.get("toolCalls", [])]
        talk.tools.update(
            body["arguments"]["number"] for body in desk.to("tool") if body["callSid"] == told.sid
        )
        client = PublicClient(self.cluster.system.context.session, "app.example.com")
        answer = await client.ask("GET", f"/api/calls/{told.sid}", token=customer.person.key)
        if answer.status == 200:
            call = answer.json["call"]
            talk.duration, talk.costs = call["durationSeconds"], call["costBreakdown"]
        self.notes.expect(
            "The API has the call, and onCallEnd the same costs.",
            any(
                body["costBreakdown"] == talk.costs and body["durationSeconds"] == talk.duration
                for body in desk.to("end")
                if body["callSid"] == told.sid
            ),
            sent=told.sid,
            came=str(answer)[:200],
        )
        return talk

    # What must hold

    def expect_whole(self, talks: Iterable[Talk]) -> None:
        """Check conversations that nothing may have disturbed, as far as people notice."""
        lines = dialogue.lines(self.turns)
        heard = " ".join(text for role, text in lines if role == "assistant")
        numbers = Counter(
            number for number in range(1, self.turns + 1) if dialogue.needs_tool(number)
        )
        for talk in talks:
            self._expect_to_its_end(talk)
            self._expect(
                "Twilio has nothing to report.", not talk.told.trouble, talk, f"{talk.told.trouble}"
            )
            self._expect(
                "The caller hears each answer once, and nothing else.",
                talk.told.heard == heard,
                talk,
                f"asked again {talk.told.again}, cut {talk.told.cut}: {talk.told.heard}",
            )
            self._expect(
                "The transcript is whole and in order.",
                talk.lines == lines,
                talk,
                _first_difference(talk.lines, lines),
            )
            self._expect(
                "Each tool is asked once and answered once.",
                talk.tools == numbers
                and talk.results == [dialogue.answer(number) for number in numbers],
                talk,
                f"asked {dict(talk.tools)}, answered {talk.results}",
            )
            self._expect(
                "The cost is that of all that the model reported.",
                talk.costs.get("openaiCost") == talk.used,
                talk,
                f"{talk.costs} and {talk.used}: {dict(talk.reported.used)}",
            )

    def expect_nearly_whole(self, talks: Iterable[Talk]) -> None:
        """Check conversations whose engine was killed: they may lack one turn, or repeat it."""
        for talk in talks:
            self._expect_to_its_end(talk)
            lost, repeated = lost_turns(talk.lines, self.turns), repeated_turns(talk.lines)
            numbers = [dialogue.number_in(text) for _, text in talk.lines[1:]]
            self._expect(
                "At most one turn is lost, and the rest is in order.",
                len(lost | repeated) <= 1 and numbers == sorted(numbers),
                talk,
                f"lost {lost}, repeated {repeated}: {talk.lines}",
            )
            again = {number: times - 1 for number, times in talk.tools.items() if times > 1}
            self._expect(
                "Each tool is asked once, but for that of the lost turn.",
                sum(again.values()) <= 1
                and set(talk.tools)
                == {n for n in range(1, self.turns + 1) if dialogue.needs_tool(n)},
                talk,
                f"{dict(talk.tools)}",
            )
            self._expect(
                "The cost is that of all that the model reported, but for one turn.",
                0 <= talk.used - talk.costs.get("openaiCost", 0.0) <= _turn_cost(),
                talk,
                f"{talk.costs} and {talk.used}",
            )

    def expect_equal(
        self, talks: list[Talk], others: list[Talk], nearly: Iterable[Talk] = ()
    ) -> None:
        """Compare time and money of calls with those of others, one by one."""
        inexact = {id(talk) for talk in nearly}
        for talk, other in zip(talks, others, strict=True):
            about_one_turn = id(talk) in inexact
            self._expect(
                "A call lasts as long as without a move, to the second.",
                talk.duration == other.duration,
                talk,
                f"{talk.duration} s and {other.duration} s",
            )
            difference = {
                name: abs(cost - other.costs.get(name, 0.0)) for name, cost in talk.costs.items()
            }
            may_differ = ("openaiCost", "totalCost") if about_one_turn else ()
            self._expect(
                "A call costs as much as without a move.",
                all(
                    amount <= (_turn_cost() if name in may_differ else 0.0)
                    for name, amount in difference.items()
                ),
                talk,
                f"{talk.costs} and {other.costs}",
            )

    def expect_few_repetitions(self, talks: Collection[Talk]) -> None:
        again = sum(talk.asked_again for talk in talks)
        moves = sum(len(talk.silences) for talk in talks)
        self.notes.expect(
            "Few moves make a caller say something again.",
            again <= 1 + _MOST_AGAIN * moves,
            came=f"{again} questions in {moves} moves, "
            f"{sum(len(talk.told.cut) for talk in talks)} of them broken off",
        )

    def expect_short_silences(self, whose: str, talks: Collection[Talk]) -> None:
        found = [(talk, each) for talk in talks for each in talk.silences]
        for talk, silence in found:
            self._expect(
                "The model hears the caller again after a move.",
                silence is not None,
                talk,
                f"closed {talk.told.closed}, heard {talk.reported.hears_at}",
            )
        opened = Counter(
            _after(at, talk.told.opened) or 0.0 for talk in talks for at in talk.told.closed[:-1]
        )
        self.notes.measure(
            f"{whose} calls have another stream after",
            f"{percentile(opened, 0.5):.2f} s, p95 {percentile(opened, 0.95):.2f} s",
        )
        counts = Counter(silence for _, silence in found if silence is not None)
        self.notes.within(
            f"silence of {whose} calls, p95", percentile(counts, 0.95), MOST_SILENCE_S
        )

    def _expect_to_its_end(self, talk: Talk) -> None:
        told = talk.told
        self._expect(
            "No call ends before its caller hangs up.",
            not told.why,
            talk,
            f"{told.why} {told.trouble}, heard {told.heard[-40:]!r}",
        )
        self._expect(
            "Every question is answered.", not told.unanswered, talk, f"but {told.unanswered}"
        )

    def _expect(self, case: str, holds: bool, talk: Talk, came: str) -> None:
        self.notes.expect(
            case, holds, sent=f"{talk.told.sid}, opened {len(talk.told.opened)} times", came=came
        )


@dataclass
class _Talkers:
    """The processes with the people who call."""

    talking: set[str] = field(default_factory=set)
    over: list[Told] = field(default_factory=list)
    _processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    _reading: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls, customers: list[Customer], turns: int) -> _Talkers:
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
def _backends(customers: Iterable[Customer]) -> Iterator[None]:
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


def _from_outside(told: Told) -> CallOutside:
    return CallOutside(
        told.sid,
        told.number,
        told.rang_at,
        0.0,
        connects=True,
        opened=told.opened[0] if told.opened else 0.0,
        closed=told.hung_up_at,
        has_hung_up=not told.why,
        has_heard=bool(told.heard),
    )


def lost_turns(lines: Iterable[Line], turns: int) -> set[int]:
    """Return the turns of which the transcript lacks a line."""
    there = set(lines)
    return {
        number
        for number in range(1, turns + 1)
        if not {("user", dialogue.question(number)), ("assistant", dialogue.answer(number))}
        <= there
    }


def repeated_turns(lines: Iterable[Line]) -> set[int]:
    return {dialogue.number_in(text) for (_, text), times in Counter(lines).items() if times > 1}


def _turn_cost() -> float:
    """Return what the dearest turn costs, with room for rounding to six decimals, in USD."""
    return float(openai_cost(dialogue.MODEL, dialogue.all_used(dialogue.USED))) + 2e-6


def _first_difference(lines: list[Line], wanted: list[Line]) -> str:
    for at, (line, other) in enumerate(zip(lines, wanted, strict=False)):
        if line != other:
            return f"{lines[max(0, at - 2) : at + 3]} at line {at}, not {other}"
    return f"{len(lines)} lines instead of {len(wanted)}, until {lines[-2:]}"


def _row(run: str, talks: list[Talk], turns: int) -> TalkRow:
    silences = Counter(each for talk in talks for each in talk.silences if each is not None)
    waits = Counter(each for talk in talks for each in talk.told.waits)
    whole = dialogue.lines(turns)
    return TalkRow(
        run,
        len(talks),
        moves=sum(len(talk.silences) for talk in talks),
        cut=sum(bool(talk.told.why) for talk in talks),
        whole=sum(talk.lines == whole for talk in talks),
        lost=sum(len(lost_turns(talk.lines, turns)) for talk in talks),
        again=sum(talk.asked_again for talk in talks),
        asked=sum(talk.tools.total() for talk in talks),
        answered=sum(len(talk.results) for talk in talks),
        seconds=sum(talk.duration for talk in talks),
        cost=sum(talk.costs.get("openaiCost", 0.0) for talk in talks),
        silence=(
            percentile(silences, 0.5),
            percentile(silences, 0.95),
            max(silences, default=0.0),
        ),
        wait=(percentile(waits, 0.5), max(waits, default=0.0)),
    )
