"""PostgreSQL accepts connections and does not respond, for example because its disk hangs."""

from __future__ import annotations

from devtools.chaos.outage import suffer
from devtools.chaos.report import Notes
from devtools.chaos.system import System

KILLS = ()


async def run(system: System, notes: Notes) -> None:
    async def hang() -> None:
        system.postgres.hang()

    async def go_on() -> None:
        system.postgres.go_on()

    seconds = 6.0 if system.is_short else 20.0
    await suffer(system, notes, hang, go_on, seconds=seconds)
