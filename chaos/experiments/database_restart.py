"""PostgreSQL is restarted, and stopped for longer, while people talk."""

from __future__ import annotations

from chaos.outage import suffer
from chaos.report import Notes
from chaos.scene import Scene

KILLS = ()


async def run(scene: Scene, notes: Notes) -> None:
    long = scene.random.uniform(60, 100)
    for seconds in (3.0,) if scene.is_short else (1.0, 3.0, 8.0, long):
        await suffer(scene, notes, scene.postgres.stop, scene.postgres.start, seconds=seconds)
