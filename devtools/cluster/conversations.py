"""The same conversations three times: untouched, with every engine restarted, with one killed.

Each call is compared with the one of the same number that nothing disturbed: what was said, what
the backend was asked, how long it lasted, and what it cost. The silence of a move is the time from
the end of the call's old stream until the model hears the caller again, in its new session.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from devtools.attack.web import PublicClient
from devtools.chaos.report import Notes
from devtools.chaos.traffic import Customer
from devtools.chaos.waiting import until
from devtools.cluster import dialogue
from devtools.cluster.participants import Talkers, TalkingModel, backends
from devtools.cluster.restarts import begin, restart
from devtools.cluster.system import CallOutside, Cluster
from devtools.cluster.talk_checks import TalkChecks
from devtools.cluster.talkers import Told
from devtools.cluster.talks import Talk, TalkRow, row_of
from devtools.processes import Failed

_TALKING_WITHIN_S = 60.0
_OVER_WITHIN_S = 120.0

_ENGINES_OF = """
    SELECT call.call_sid, process.pid FROM telephony_call AS call
    JOIN telephony_engine AS process ON process.id = call.engine_id
    WHERE call.call_sid = ANY(%s) AND call.ended_at IS NULL
"""


async def conversations(cluster: Cluster, notes: Notes, model: TalkingModel) -> list[TalkRow]:
    """Have the conversations three times; return a row for each."""
    turns = cluster.options.turns
    runs = _Runs(cluster, notes, model, cluster.options.talks, turns)
    checks = TalkChecks(notes, turns)
    with backends(cluster.load.customers):
        untouched = await runs.have(_measure)
        checks.expect_whole(untouched)
        restarted = await runs.have(_restart)
        checks.expect_whole(restarted)
        checks.expect_equal(restarted, untouched)
        checks.expect_few_repetitions(restarted)
        checks.expect_short_silences("a restarted engine's", restarted)
        killed = await runs.have(_kill)
        lost = [talk for talk in killed if len(talk.told.opened) > 1]
        notes.measure("calls of the killed engine", len(lost))
        notes.expect("The killed engine had calls.", bool(lost))
        rest = {id(talk) for talk in killed} - {id(talk) for talk in lost}
        checks.expect_whole([talk for talk in killed if id(talk) in rest])
        checks.expect_nearly_whole(lost)
        checks.expect_equal(killed, untouched, nearly=lost)
        checks.expect_short_silences("a killed engine's", killed)
    names = ("untouched", "restarted", "killed")
    return [
        row_of(name, talks, turns)
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
        talkers = await Talkers.start(self._customers(), self.turns)
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
