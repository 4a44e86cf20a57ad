"""PostgreSQL restarts, crashes, and is stopped for longer, during calls."""

from __future__ import annotations

from devtools.chaos.outage import suffer
from devtools.chaos.report import Notes
from devtools.chaos.system import System

KILLS = ()


async def run(system: System, notes: Notes) -> None:
    long = system.random.uniform(60, 100)
    postgres = system.postgres
    for seconds in (3.0,) if system.is_short else (1.0, 3.0, 8.0, long):
        await suffer(system, notes, postgres.stop, postgres.start, seconds=seconds)
    if not system.is_short:
        # Plans are in an unlogged table, which a crash empties. They are nowhere else.
        await suffer(
            system, notes, postgres.crash, postgres.start, seconds=3.0, keeps_tickets=False
        )
