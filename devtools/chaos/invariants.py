"""The invariants that must hold after every experiment."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from devtools.attack.areas.secrets import read_logs
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import Placed
from devtools.chaos.waiting import seconds_until
from telephony.engine.codes import EndedReason

# The difference allowed between record and phone: the end of a call reaches each separately.
_APART_S = 1.0
# A caller may hang up when the engine has left, and before another one has the call: none listens.
_BETWEEN_STREAMS_S = 3.0
# How old a killed engine's last report on its calls may be: one heartbeat, and its way.
_BEAT_S = 4.0
# A call that its engine had not yet reported as connected costs nothing.
_UNSAID_S = 4.0
# How long the stand-in for OpenAI takes to accept a configuration, on a busy machine.
_READY_WITHIN_S = 4.0
# The timeline reads the time of day. The bill converts the engine's clock, which stands still while
# the event loop is busy, and each move converts it again.
_CLOCKS_APART_S = 0.5
# A call whose audio was never connected ends at most a minute after its ticket.
_ENDED_WITHIN_S = 90.0
# A callback whose worker was killed is sent again after half a minute.
_DELIVERED_WITHIN_S = 30.0

_CALLS = """
    SELECT call_sid, ended_reason, duration_seconds,
        extract(epoch FROM ended_at - answered_at)::float8,
        ended_at IS NOT NULL, lost_at IS NOT NULL,
        extract(epoch FROM ended_at - billed_from)::float8,
        engine_id,
        (
            SELECT coalesce(string_agg(kind || to_char(
                extract(epoch FROM at - coalesce(answered_at, created_at)), ' FM9999990.00'
            ), ', ' ORDER BY at), '')
            FROM telephony_callevent WHERE call_id = call.id
        )
    FROM telephony_call AS call WHERE call_sid = ANY(%s)
"""
_CHARGED = """
    SELECT call_sid, count(*), sum(duration_seconds), sum(minutes)
    FROM usage_usagerecord WHERE call_sid = ANY(%s) GROUP BY call_sid
"""
_WAITING = """
    SELECT count(*) FROM telephony_callbackdelivery AS delivery
    JOIN telephony_call AS call ON call.id = call_id
    WHERE call_sid = ANY(%s) AND state = 'pending'
"""
_TOTALS = """
    SELECT account.email,
        (SELECT coalesce(sum(minutes), 0) FROM usage_usagerecord WHERE account_id = account.id),
        (SELECT count(DISTINCT call_sid) FROM usage_usagerecord WHERE account_id = account.id),
        (SELECT coalesce(sum(minutes), 0) FROM usage_dailyusage WHERE account_id = account.id),
        (SELECT coalesce(sum(calls), 0) FROM usage_dailyusage WHERE account_id = account.id),
        (SELECT coalesce(sum(minutes), 0) FROM usage_totalusage WHERE account_id = account.id),
        (SELECT coalesce(sum(calls), 0) FROM usage_totalusage WHERE account_id = account.id)
    FROM accounts_account AS account WHERE email = ANY(%s)
"""
_METER = (
    "import django; django.setup(); from billing.metering import events; "
    "events.meter_events_write(); events.meter_events_send()"
)


@dataclass(frozen=True, slots=True)
class Record:
    """A call's row in the database, ``lasted`` and ``billed`` in seconds.

    ``lasted`` is the duration of its audio, ``billed`` the part of it since the model was ready.
    ``engine_id`` is "" if no engine held it when it ended: it was given out to another one.
    ``timeline`` has the seconds since the audio began, or the call if there was none.
    """

    call_sid: str
    reason: str
    duration: int
    lasted: float | None
    is_ended: bool
    was_lost: bool
    billed: float | None
    engine_id: str = "the engine"
    timeline: str = ""

    @property
    def ready_after(self) -> float | None:
        """The seconds until the model was ready; None if the engine died before it stored that."""
        entries = (entry.split() for entry in self.timeline.split(", ") if entry)
        return next((float(at) for kind, at in entries if kind == "model_ready"), None)


async def check(
    system: System,
    notes: Notes,
    placed: Sequence[Placed],
    *,
    may_be_resumed: bool = False,
    delivered: bool = True,
) -> dict[str, Record]:
    """Wait until the calls have ended, and check everything about them.

    :param may_be_resumed: their engine was cut off: calls may have been considered lost meanwhile,
        and reported so, if they are reported again at the end.
    :param delivered: their backends respond, so everything must have been delivered.
    """
    sids = [each.call_sid for each in placed]
    await _until_ended(system, notes, sids)
    records = await records_of(system, sids)
    for each in placed:
        record = records.get(each.call_sid)
        if notes.expect(
            "Every call has an ended record.",
            record is not None and record.is_ended,
            sent=_about(each),
            came=record,
        ):
            expect_right_minutes(notes, each, records[each.call_sid])
            _expect_right_reason(notes, each, records[each.call_sid])
    await _expect_charged_once(system, notes, records)
    if delivered:
        await _until_delivered(system, notes, sids)
        for each in placed:
            expect_told_once(notes, each, may_be_resumed=may_be_resumed)
    return records


async def records_of(system: System, sids: Collection[str]) -> dict[str, Record]:
    rows = await system.query(_CALLS, list(sids))
    return {row[0]: Record(*row) for row in rows}


async def check_at_the_end(system: System, notes: Notes) -> None:
    """Check what only the whole run shows: totals, the meter, the logs."""
    await _expect_right_totals(system, notes)
    read_logs(system.context, notes)
    _expect_no_crash(system, notes)


async def _until_ended(system: System, notes: Notes, sids: list[str]) -> None:
    query = "SELECT count(*) FROM telephony_call WHERE call_sid = ANY(%s) AND ended_at IS NULL"

    async def is_over() -> bool:
        return (await system.query(query, sids))[0][0] == 0

    took = await seconds_until(is_over, within=_ENDED_WITHIN_S)
    notes.within("The last record has ended", took, _ENDED_WITHIN_S)


def expect_right_minutes(notes: Notes, placed: Placed, record: Record) -> None:
    """Compare a record with the life of its socket, until its engine was killed."""
    lasted, life = record.lasted or 0.0, placed.call.seconds
    notes.expect(
        "A call whose audio is connected was accepted.",
        placed.is_let_in,
        sent=_about(placed),
        came=f"closed after {life:.1f} s without a sound, and recorded as {record}",
    )
    if not placed.is_let_in:
        return
    if placed.killed_at is None:
        told = f"{record.reason}, {record.timeline}"
        shorter = _APART_S if record.engine_id else _BETWEEN_STREAMS_S
        notes.expect(
            "A record lasts as long as its socket, or until its last engine closed that.",
            record.lasted is not None and -shorter <= lasted - life <= _APART_S,
            sent=_about(placed),
            came=f"{lasted:.2f} s recorded, {life:.2f} s talked: {told}",
        )
        _expect_billed(notes, placed, record, least=lasted)
        return
    known = placed.killed_at - placed.call.opened
    least = 0.0 if known < _UNSAID_S else known - _BEAT_S
    notes.expect(
        "A killed engine's calls are charged up to its last heartbeat, and for no more.",
        least <= lasted <= max(life, known) + _APART_S,
        sent=_about(placed),
        came=f"{lasted:.2f} s recorded, {known:.2f} s until the kill: {record.timeline}",
    )
    _expect_billed(notes, placed, record, least=least)


def _expect_billed(notes: Notes, placed: Placed, record: Record, *, least: float) -> None:
    lasted, billed, ready = record.lasted or 0.0, record.billed or 0.0, record.ready_after
    if ready is None or record.billed is None:  # it is free if its model failed before it spoke
        is_right = least - _READY_WITHIN_S <= billed <= lasted
    else:
        is_right = abs(lasted - ready - billed) <= _CLOCKS_APART_S
    notes.expect(
        "A call is billed from when its model was ready.",
        is_right,
        sent=_about(placed),
        came=f"{billed:.2f} s of {lasted:.2f} s billed: {record.timeline}",
    )


def _expect_right_reason(notes: Notes, placed: Placed, record: Record) -> None:
    if placed.killed_at is None:
        notes.expect(
            "A call that ended by itself is not recorded as lost.",
            record.reason != EndedReason.ENGINE_LOST,
            sent=_about(placed),
            came=record,
        )


async def _expect_charged_once(system: System, notes: Notes, records: dict[str, Record]) -> None:
    rows = await system.query(_CHARGED, list(records))
    charged = {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}
    for sid, record in records.items():
        parts, seconds, minutes = charged.get(sid, (0, 0, 0))
        notes.expect(
            "A call is charged once, with all of its minutes.",
            parts == 1 or (record.was_lost and parts == 2),
            sent=record,
            came=f"{parts} usage records",
        )
        notes.expect(
            "The charge matches the record.",
            seconds == record.duration and minutes == math.ceil((record.billed or 0.0) / 60),
            sent=record,
            came=f"{seconds} s, {minutes} minutes",
        )


async def _until_delivered(system: System, notes: Notes, sids: list[str]) -> None:
    async def is_delivered() -> bool:
        return (await system.query(_WAITING, sids))[0][0] == 0

    took = await seconds_until(is_delivered, within=_DELIVERED_WITHIN_S)
    notes.within("Everything is delivered", took, _DELIVERED_WITHIN_S)


def expect_told_once(notes: Notes, placed: Placed, *, may_be_resumed: bool) -> None:
    told = ends_of(placed)
    ids = list(told)
    reasons = [body["endedReason"] for body in told.values()]
    is_right = len(ids) == 1 or (
        may_be_resumed and len(ids) == 2 and reasons[0] == EndedReason.ENGINE_LOST != reasons[1]
    )
    notes.expect(
        "The end of a call is reported once (by webhook-id).",
        is_right,
        sent=_about(placed),
        came=f"{len(ids)} ends: {reasons}",
    )
    if ids:
        spoken = {line["text"] for line in told[ids[-1]]["transcript"] if line["role"] != "user"}
        missing = [n for n in placed.turns[:-1] if f"Turn {n}." not in spoken]
        notes.expect(
            "A transcript lacks at most the last turn.",
            not missing,
            sent=_about(placed),
            came=f"turns {missing[:5]} of {placed.turns[-1:]} are missing, {len(spoken)} are there",
        )


def ends_of(placed: Placed) -> dict[str, dict[str, Any]]:
    """Return the onCallEnd bodies that the backend received, by webhook-id."""
    desk = placed.customer.line.desk
    told = zip(desk.received, desk.webhook_ids, strict=True)
    return {
        id: body
        for (name, body), id in told
        if name == "end" and body["callSid"] == placed.call_sid
    }


async def _expect_right_totals(system: System, notes: Notes) -> None:
    metered = await system.context.product.run("-c", _METER)
    notes.expect("Metering runs.", metered.returncode == 0, came=metered.stderr[-300:])
    at_stripe: Counter[str] = Counter()
    for customer, minutes in system.context.internet.metered.values():
        at_stripe[customer] += minutes
    by_email = {each.person.email: each for each in system.traffic.all}
    rows = await system.query(_TOTALS, list(by_email))
    sums: dict[str, int] = defaultdict(int)
    for email, minutes, calls, *kept in rows:
        person = by_email[email].person
        sums["minutes"] += int(minutes)
        sums["calls"] += int(calls)
        notes.expect(
            "Usage records, daily totals and the total are the same.",
            [int(each) for each in kept] == [int(minutes), int(calls)] * 2,
            sent=f"{calls} calls, {minutes} minutes in records",
            came=f"minutes and calls by day and in all: {[int(each) for each in kept]}",
        )
        notes.expect(
            "Stripe's meter has every minute once.",
            at_stripe[f"cus_{person.name}"] == int(minutes),
            sent=f"{minutes} minutes in records",
            came=f"{at_stripe[f'cus_{person.name}']} minutes at Stripe",
        )
    notes.measure("charged calls, and their minutes", dict(sums))


def _expect_no_crash(system: System, notes: Notes) -> None:
    """Check that no log has an unexpected Python error."""
    traces = [
        (name, line)
        for name, line in system.context.product.log_lines()
        if "Task exception was never retrieved" in line
    ]
    notes.expect("No task ends with an unhandled error.", not traces, came=traces[:1])


def _about(placed: Placed) -> str:
    state = "" if placed.killed_at is None else ", killed"
    return f"{placed.call_sid} at {placed.engine}{state}"


@dataclass
class Pids:
    """The process ids at the start of an experiment."""

    masters: dict[str, int]
    workers: dict[str, int]

    @classmethod
    def of(cls, system: System) -> Pids:
        processes = system.context.product.processes
        return cls(
            {name: each.popen.pid for name, each in processes.items()},
            {name: each.worker() for name, each in processes.items()},
        )

    def expect_the_same(self, system: System, notes: Notes, *, but: Collection[str] = ()) -> None:
        now = Pids.of(system)
        for name, pid in self.masters.items():
            if name in but:
                continue
            ended = system.context.product.processes[name].popen.poll()
            notes.expect(
                "A process that was not killed survives, with the same pid.",
                ended is None
                and (now.masters[name], now.workers[name]) == (pid, self.workers[name]),
                sent=f"{name}: {pid}, {self.workers[name]}",
                came=f"status {ended}; {now.masters[name]}, {now.workers[name]}",
            )


def expect_alive(notes: Notes, placed: Sequence[Placed], since: float, *, gap: float) -> None:
    """Check that calls on living engines continue and are heard."""
    now = time.monotonic()
    longest = 0.0
    for each in placed:
        silent = each.call.longest_gap(since, each.call.closed or now)
        longest = max(longest, silent)
        notes.expect(
            "A call continues, and is heard.",
            each.call.is_open and silent <= gap,
            sent=_about(each),
            came=f"{'open' if each.call.is_open else 'closed'}, silent for {silent:.1f} s",
        )
    if placed:
        notes.measure(f"longest silence in {len(placed)} calls", f"{longest:.2f} s")
