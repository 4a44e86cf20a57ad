"""PostgreSQL is there, and answers nobody: its disk hangs, say."""

from __future__ import annotations

from devtools.chaos.outage import suffer
from devtools.chaos.report import Notes
from devtools.chaos.scene import Scene

KILLS = ()


async def run(scene: Scene, notes: Notes) -> None:
    async def hang() -> None:
        scene.postgres.hang()

    async def go_on() -> None:
        scene.postgres.go_on()

    seconds = 6.0 if scene.is_short else 20.0
    await suffer(scene, notes, hang, go_on, seconds=seconds)
