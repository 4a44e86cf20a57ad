"""What happens to the cluster while calls are in progress, and what must hold."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import psycopg

from devtools.attack.product import WORKER
from devtools.attack.web import Answer, PublicClient
from devtools.chaos.report import Notes
from devtools.chaos.waiting import seconds_until, until
from devtools.cluster.restarts import begin, restart
from devtools.cluster.system import CallOutside, Cluster
from telephony.engine.codes import EndedReason

_ASK_EVERY_S = 0.2
_PATHS = ("/api/account", "/api/calls?limit=20", "/api/usage", "/docs/callbacks")
# Nobody hears a pause of this length as the end of a call.
_GAP_S = 2.0
_LOST_WITHIN_S = 15.0
_MOVED_WITHIN_S = 10.0
# An engine stores a conversation a second after its first event: before that, nothing can go on.
_UNSTORED_S = 2.5

_ENGINES = """
    SELECT process.pid, call.call_sid FROM telephony_call AS call
    JOIN telephony_engine AS process ON process.id = call.engine_id
    WHERE call.ended_at IS NULL AND call.answered_at IS NOT NULL
"""
_ENDED_AS = """
    SELECT count(*) FROM telephony_call
    WHERE call_sid = ANY(%s) AND ended_at IS NOT NULL AND ended_reason = %s
"""
_OVERDUE = """
    SELECT count(*) FROM telephony_callbackdelivery
    WHERE state = 'pending' AND created_at < now() - interval '30 seconds'
"""
_READING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database()
        AND pid <> pg_backend_pid()
"""
_STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"


async def steady(cluster: Cluster, notes: Notes) -> None:
    """Let calls come and go, and measure what each process uses."""
    async with _asking(cluster, notes):
        await cluster.measure(notes, cluster.options.seconds)
    calls = len(cluster.load.open_calls)
    for name in ("engine", "web", WORKER, "worker-2"):
        memory = cluster.processes[name].memory() / (1 << 20)
        notes.measure(f"{name}'s memory", f"{memory:.0f} MB")
    notes.measure("calls in progress at the end", calls)


async def rolling(cluster: Cluster, notes: Notes) -> None:
    """Restart every process, one after the other, as a deploy does."""
    async with _asking(cluster, notes):
        for name in cluster.names:
            await restart(cluster, notes, name)


async def kill(cluster: Cluster, notes: Notes) -> dict[str, float]:
    """Kill an engine and a worker, restart PgBouncer, reload HAProxy.

    Returns when the engine of each call was killed, by CallSid.
    """
    async with _asking(cluster, notes):
        killed = await _kill_engine(cluster, notes)
        await _step(cluster, notes, "a killed worker", lambda: _kill_worker(cluster, notes))
        await _step(cluster, notes, "a restart of PgBouncer", cluster.pooler.restart)
        await _step(cluster, notes, "a reload of HAProxy", cluster.front.reload)
    return killed


async def replica(cluster: Cluster, notes: Notes) -> None:
    """Stop the replica, and start it again."""

    async def is_streaming() -> bool:
        return (await cluster.system.query(_STREAMING))[0][0] == 1

    async def is_read() -> bool:
        async with await psycopg.AsyncConnection.connect(cluster.replica.url) as connection:
            ((count,),) = await (await connection.execute(_READING)).fetchall()
        return bool(count)

    notes.expect("The replica follows the primary.", await until(is_streaming, within=10))
    async with _asking(cluster, notes):
        notes.expect("Lists are read from the replica.", await until(is_read, within=20))
        await cluster.replica.stop()
        await asyncio.sleep(cluster.options.seconds / 3)
        await cluster.replica.start()
        took = await seconds_until(is_streaming, within=30)
        notes.within("the replica follows again", took, 30)


async def _kill_engine(cluster: Cluster, notes: Notes) -> dict[str, float]:
    """Kill an engine, whose calls go on in others; return when, by CallSid of those that end.

    Those that go on are charged and reported like any other call.
    """
    name = "engine-2"
    pid = cluster.processes[name].worker()
    rows = await cluster.system.query(_ENGINES)
    calls = cluster.load.calls
    known = [calls[sid] for found, sid in rows if found == pid and sid in calls]
    popen = cluster.processes[name].popen
    killed_at = time.monotonic()
    os.killpg(popen.pid, signal.SIGKILL)
    popen.wait(10)

    def are_elsewhere() -> bool:
        return all(call.has_moved_since(killed_at) or call.closed for call in known)

    took = await seconds_until(are_elsewhere, within=_MOVED_WITHIN_S, since=killed_at)
    notes.within("a killed engine's calls have moved or ended", took, _MOVED_WITHIN_S)
    # Some calls may have reached the engine after it was asked for.
    cut = {
        call.call_sid: killed_at
        for call in calls.values()
        if call.is_cut and killed_at - 1 < (call.closed or 0.0) < killed_at + 2
    }
    for call in known:
        notes.expect(
            "The calls of a killed engine go on in another one, apart from the newest.",
            call.call_sid not in cut or killed_at - call.opened < _UNSTORED_S,
            sent=call.call_sid,
            came=_about(call),
        )
    notes.measure("calls of the killed engine", len({each.call_sid for each in known} | set(cut)))
    notes.measure("of these, ended", len(cut))
    sids = list(cut)

    async def are_over() -> bool:
        return (await cluster.system.query(_ENDED_AS, sids, EndedReason.ENGINE_LOST))[0][0] == len(
            sids
        )

    if cut:
        took = await seconds_until(are_over, within=2 * _LOST_WITHIN_S, since=killed_at)
        notes.within("these end as lost", took, _LOST_WITHIN_S)
    await begin(cluster, name)
    return cut


async def _kill_worker(cluster: Cluster, notes: Notes) -> None:
    popen = cluster.processes[WORKER].popen
    os.killpg(popen.pid, signal.SIGKILL)
    popen.wait(10)
    await asyncio.sleep(cluster.options.lasts[0])
    ((late,),) = await cluster.system.query(_OVERDUE)
    notes.expect("Another worker takes over a killed one's callbacks.", late == 0, came=late)
    cluster.system.context.product.begin(WORKER)


async def _step(
    cluster: Cluster, notes: Notes, what: str, do: Callable[[], Awaitable[None]]
) -> None:
    """Do something that no call may notice, and wait until new calls have been placed after it."""
    began, known = time.monotonic(), len(cluster.load.calls)
    await do()
    notes.measure(f"{what} took", f"{time.monotonic() - began:.1f} s")
    await until(lambda: len(cluster.load.calls) >= known + 3, within=cluster.options.lasts[1] + 20)


def expect_none_cut(cluster: Cluster, notes: Notes, but: Mapping[str, float] | None = None) -> None:
    """Check that every call was connected, is heard, and ends when its caller hangs up."""
    for call in cluster.load.calls.values():
        if call.call_sid in (but or {}):
            continue
        notes.expect(
            "Every call is connected.",
            call.connects and not call.why,
            sent=call.call_sid,
            came=call.said or call.why,
        )
        notes.expect("No call is cut.", not call.is_cut, sent=call.call_sid, came=_about(call))


def _about(call: CallOutside) -> str:
    return f"opened {call.opened:.1f}, closed {call.closed}, heard {call.has_heard}"


@asynccontextmanager
async def _asking(cluster: Cluster, notes: Notes) -> AsyncIterator[None]:
    """Request pages and the API all the time, and expect a response each time."""
    person = cluster.load.customers[0].person
    client = PublicClient(cluster.system.context.session, "app.example.com")
    answers: list[tuple[str, Answer]] = []
    is_over = asyncio.Event()

    async def ask() -> None:
        while not is_over.is_set():
            for path in _PATHS:
                answers.append((path, await client.ask("GET", path, token=person.key, patience=10)))
                await asyncio.sleep(_ASK_EVERY_S)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        is_over.set()
        await task
    for path, answer in answers:
        notes.expect(
            "Pages and the API go on.", answer.status == 200, sent=path, came=str(answer)[:200]
        )
    slowest = max((answer.seconds for _, answer in answers), default=0.0)
    notes.measure("requests of pages and the API", len(answers))
    notes.measure("the slowest of them", f"{slowest:.2f} s")
