"""The system that every experiment breaks."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from devtools.attack.context import Context
from devtools.chaos.postgres import Postgres
from devtools.chaos.relay import Relay
from devtools.chaos.traffic import Traffic


@dataclass
class System:
    """``relays`` connect the engines to the database, by the engine's name.

    ``at_the_end`` has checks that experiments leave for the end, when nothing is broken any more.
    """

    context: Context
    postgres: Postgres
    relays: dict[str, Relay]
    traffic: Traffic
    random: random.Random
    is_short: bool
    at_the_end: list[Callable[[], Awaitable[None]]] = dataclasses.field(default_factory=list)

    async def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database directly, not through a relay."""
        connecting = psycopg.AsyncConnection.connect(self.postgres.url, autocommit=True)
        async with await connecting as connection:
            return await (await connection.execute(statement, values)).fetchall()
