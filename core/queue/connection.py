"""A worker's connection to its queue, which has a timeout and is reopened after a loss.

It is separate from the jobs' connections, so that no job blocks the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from procrastinate.connector import BaseAsyncConnector, BaseConnector
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import NoResult
from procrastinate.psycopg_connector import wrap_exceptions
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

# The database around a PgBouncer, if there is one: in transaction mode, that does not pass on
# notifications.
DIRECT = "direct"
CONNECT_WITHIN_S = 5
RESPOND_WITHIN_S = 10.0
# Seconds between checks that the listening connection still works.
_SILENCE_S = 10.0

T = TypeVar("T")
Rows = list[dict[str, Any]]


class QueueConnector(BaseAsyncConnector):
    """A connector for procrastinate that runs one statement at a time, on one connection.

    A failure raises procrastinate's ``ConnectorException``; the statement may have been executed.
    """

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[dict[str, Any]] | None = None
        self._turn = asyncio.Lock()

    def get_sync_connector(self) -> BaseConnector:
        return DjangoConnector()

    async def open_async(self, pool: None = None) -> None:
        """Do nothing: the first statement connects."""

    async def close_async(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        await self._execute(query, arguments)

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        rows = await self._execute(query, arguments)
        if not rows:
            raise NoResult
        return rows[0]

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> Rows:
        return await self._execute(query, arguments)

    @wrap_exceptions()
    async def _execute(self, query: Any, arguments: dict[str, Any]) -> Rows:
        async with self._turn:
            return await _with_timeout(self._run(query, arguments), give_up=self._close)

    async def _run(self, query: Any, arguments: dict[str, Any]) -> Rows:
        if self._connection is None or self._connection.closed:
            self._connection = await _connect()
        cursor = await self._connection.execute(query, _with_json(arguments))
        return await cursor.fetchall() if cursor.description else []


async def listen(channels: Iterable[str], heard: Callable[[str], None]) -> None:
    """Call ``heard`` with the channel of each notification, until the connection is lost.

    PostgreSQL doesn't repeat earlier notifications. So once all channels are listened to, ``heard``
    is called for each of them. Raises ``psycopg.OperationalError``.
    """
    connection = await _connect()
    close = connection.pgconn.finish
    try:
        for channel in channels:
            await _with_timeout(
                connection.execute(SQL("LISTEN {}").format(Identifier(channel))), close
            )
        for channel in channels:
            heard(channel)
        while True:
            async for notification in connection.notifies(timeout=_SILENCE_S):
                heard(notification.channel)
            await _with_timeout(connection.execute("SELECT 1"), close)
    finally:
        close()


async def _with_timeout(running: Coroutine[Any, Any, T], give_up: Callable[[], None]) -> T:
    """Await a response; without one, close the connection, since its next response may be this one.

    Cancelling the coroutine is not enough: psycopg would wait for the server to confirm.
    """
    work = asyncio.ensure_future(running)
    try:
        await asyncio.wait({work}, timeout=RESPOND_WITHIN_S)
        if not work.done():
            raise psycopg.OperationalError(f"no response within {RESPOND_WITHIN_S:g} seconds")
        return work.result()
    finally:
        if not work.done():
            give_up()
            work.cancel()


def queue_database() -> str:
    """Return the name of the database that workers connect to for the queue."""
    return DIRECT if DIRECT in connections.settings else DEFAULT_DB_ALIAS


async def _connect() -> psycopg.AsyncConnection[dict[str, Any]]:
    known = connector_params(queue_database()) | {
        "connect_timeout": CONNECT_WITHIN_S,
        "row_factory": dict_row,
    }
    return await psycopg.AsyncConnection.connect(**known, autocommit=True)


def _with_json(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: Jsonb(value) if isinstance(value, dict) else value
        for name, value in arguments.items()
    }
