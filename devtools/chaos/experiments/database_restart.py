"""PostgreSQL is restarted, crashes, and is stopped for longer, while people talk."""

from __future__ import annotations

from devtools.chaos.outage import suffer
from devtools.chaos.report import Notes
from devtools.chaos.scene import Scene

KILLS = ()


async def run(scene: Scene, notes: Notes) -> None:
    long = scene.random.uniform(60, 100)
    postgres = scene.postgres
    for seconds in (3.0,) if scene.is_short else (1.0, 3.0, 8.0, long):
        await suffer(scene, notes, postgres.stop, postgres.start, seconds=seconds)
    if not scene.is_short:
        # Plans are in a table that no crash spares: they are nowhere else, not even in a backup.
        await suffer(scene, notes, postgres.crash, postgres.start, seconds=3.0, keeps_tickets=False)
