"""Connections with a time limit on every wait, and a pool that recovers quickly from an outage.

PostgreSQL's own timeouts don't help when the server hangs or the network drops every packet, and
PgBouncer refuses them in the startup packet. So the client enforces the limit
(``core.connections``), and sends it to the server in the same message as each transaction's BEGIN.
That costs no round trip and affects no other client of a PgBouncer.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isinf
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, TypeVar, cast
from weakref import WeakSet

import psycopg
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.utils.asyncio import async_unsafe
from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool, PoolTimeout
from psycopg_pool.base import AttemptWithBackoff
from psycopg_pool.pool import AddConnection

from core.connections import database_within, patience
from core.database.schema import DatabaseSchemaEditor
from core.outages import NoResponse
from core.unread import has_unread

RV = TypeVar("RV")

# A response proves for this long that a connection works. Under load, this avoids extra checks.
_PROVEN_FOR_S = 1.0
_PROVEN_WITHIN_S = 1.0
_CONFIGURED_WITHIN_S = 2.0
# For asking the server to cancel a query that nobody waits for any more.
_CANCELLED_WITHIN_S = 0.5
# After this long without a response on any connection, the server either hangs or is busy with long
# queries. A new connection tells which: a healthy server accepts one however long its queries take.
_SILENT_AFTER_S = 0.5
# While the database is unavailable, one request tries to connect per interval of this length.
# The others fail at once: if all of them waited, no thread would be left to serve requests.
_CONNECT_AGAIN_S = 1.0
_COMMAND_RETRY_S = 0.2
# How often the pool itself tries, until its ``reconnect_timeout`` has passed. Psycopg's own pauses,
# of 1, 2, 4 … s, would let a request that waits for two seconds miss the end of a short outage.
_POOL_RETRY_S = 0.15
# For a client that stops in the middle of a transaction and holds its locks. Our own code never
# pauses for this long there.
_IDLE_IN_TRANSACTION_MS = 60_000


class Connection(psycopg.Connection[Any]):
    """Psycopg's connection, which waits no longer than the current ``patience()`` allows."""

    made_at = answered_at = 0.0
    was_given_up = False  # closed by ourselves, while the server was slow or hung

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit = _limit()
        if not isinf(limit):
            timeout = min(limit, timeout or limit)
            gen = self._unless_it_hangs(gen)
        try:
            result = super().wait(gen, interval, timeout)
        except errors._WaitTimeout:
            self._give_up()
            message = f"The database did not respond within {timeout:.1f} s."
            raise NoResponse(message) from None
        except errors.ReadOnlySqlTransaction:
            # The server has become another one's standby, so every connection is replaced: the idle
            # ones now, this one and the others in use when they return to the pool.
            if pool := self._pool_of_ours:
                pool.drain()
            raise
        self.answered_at = monotonic()
        if pool := self._pool_of_ours:
            pool.heard_at = self.answered_at
        return result

    def _unless_it_hangs(self, gen: PQGen[RV]) -> PQGen[RV]:
        """Wait, but give up as soon as a probe finds that the server hangs."""
        began, pool = monotonic(), self._pool_of_ours
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and pool:  # an interval of the wait has passed
                    if pool.has_lost(self):
                        self._close_unheard()
                        raise NoResponse("The database does not respond.")
                    pool.probe_if_silent(since=began)
                state = gen.send(ready)
        except StopIteration as ended:
            return cast(RV, ended.value)

    def _give_up(self) -> None:
        """Close the connection: a late response would be mistaken for that of the next query."""
        pool = self._pool_of_ours
        is_heard = pool is None or monotonic() - pool.heard_at < _PROVEN_FOR_S
        if self.autocommit and is_heard:  # in a transaction, the server knows the limit
            self._try_cancel(timeout=_CANCELLED_WITHIN_S)
        self._close_unheard()

    def _close_unheard(self) -> None:
        self.was_given_up = True
        self.pgconn.finish()

    def _start_query(self) -> PQGen[None]:
        """Send BEGIN if a transaction is due, and tell the server how long statements may take."""
        limit, is_to_begin = _limit(), self.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if isinf(limit) or self.autocommit or not is_to_begin:
            yield from super()._start_query()
            return
        # Slightly less than the client's limit, because the server's error says more than a timeout
        # here. It includes waiting for a lock.
        milliseconds = max(1, int(limit * 900))
        self.pgconn.send_query(
            b"%b; SET LOCAL statement_timeout = %d; "
            b"SET LOCAL idle_in_transaction_session_timeout = %d"
            % (self._get_tx_start_command(), milliseconds, _IDLE_IN_TRANSACTION_MS)
        )
        for result in (yield from generators.execute(self.pgconn)):
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)

    @property
    def _pool_of_ours(self) -> Pool | None:
        pool = getattr(self, "_pool", None)  # psycopg sets it only with a pool
        return pool if isinstance(pool, Pool) else None

    @property
    def is_proven(self) -> bool:
        """True if the server has just responded and has sent nothing since, such as a close."""
        is_recent = monotonic() - self.answered_at <= _PROVEN_FOR_S
        return is_recent and not has_unread(self.pgconn.socket)


def _limit() -> float:
    """Return how many seconds the next response may take."""
    now = patience()
    return max(0.0, min(now.answer, now.left))


class _Attempt(AttemptWithBackoff):
    """Psycopg's plan of attempts to connect, with short pauses of the same length."""

    INITIAL_DELAY = _POOL_RETRY_S
    DELAY_BACKOFF = 1.0


class Pool(ConnectionPool[Connection]):
    """A pool that hands out only working connections, and none while the database is unavailable.

    ``heard_at`` is when the server last responded on any of the pool's connections.
    """

    def __init__(self, *, configure: Callable[[Connection], None], **options: Any) -> None:
        self._configure_own = configure
        self._connections: WeakSet[Connection] = WeakSet()
        self._stale_before = 0.0
        self._failed_at = 0.0
        self.heard_at = 0.0
        self._is_away = False
        self._hung_at = 0.0
        self._connect_again_at = 0.0
        self._next_probe_at = 0.0
        self._state_lock = Lock()
        super().__init__(
            connection_class=Connection,
            configure=self._configured,
            check=self._prove,
            reconnect_failed=lambda _: self._note_away(),
            **options,
        )

    def getconn(self, timeout: float | None = None) -> Connection:
        """Return a connection; raise :class:`PoolTimeout` if there is none in time.

        A caller without a limit on responses, such as a command, retries until then.
        """
        now = patience()
        most = now.connection if timeout is None else timeout
        until = monotonic() + max(0.0, min(most, now.left))
        while True:
            try:
                if not self._may_connect():
                    raise _no_database()
                return super().getconn(max(0.0, until - monotonic()))
            except PoolTimeout:
                if not isinf(now.answer) or monotonic() + _COMMAND_RETRY_S > until:
                    raise
                sleep(_COMMAND_RETRY_S)

    def has_lost(self, connection: Connection) -> bool:
        """Return True if the server hangs and the connection is from before that."""
        return self._is_away and connection.made_at < self._hung_at

    def probe_if_silent(self, since: float) -> None:
        """Start a probe for a hanging server, if it is silent and no other probe runs.

        :param since: when the caller began to wait.
        """
        now = monotonic()
        if now < max(self.heard_at, since) + _SILENT_AFTER_S:
            return
        with self._state_lock:
            if self._is_away or now < self._next_probe_at:
                return
            self._next_probe_at = inf
        try:
            Thread(target=self._probe, name="database-probe", daemon=True).start()
        except RuntimeError:  # the system has no thread to spare
            self._next_probe_at = now + _SILENT_AFTER_S

    def _probe(self) -> None:
        began = monotonic()
        try:
            self._connects()
        except psycopg.errors.ConnectionTimeout:
            if self.heard_at < began:
                self._note_hanging()
        except psycopg.Error:
            pass  # refused, so the server responds, or has closed all its connections
        else:
            self.heard_at = monotonic()
        finally:
            self._next_probe_at = monotonic() + _SILENT_AFTER_S

    def _connects(self) -> None:
        """Open a connection, with the same timeout as any other, and close it."""
        self.connection_class.connect(self._resolve_conninfo(), **self._resolve_kwargs()).close()

    def _note_hanging(self) -> None:
        """Record that the server hangs: end all waits, and stop using the open connections."""
        with self._state_lock:
            self._is_away = True
            self._hung_at = monotonic()
            self._connect_again_at = self._hung_at + _CONNECT_AGAIN_S
        self.drain()
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        """Raise the error at once in everything that waits for a connection."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for each in waiting:
            each.fail(_no_database())

    def _configured(self, connection: Connection) -> None:
        connection.made_at = monotonic()
        with database_within(_CONFIGURED_WITHIN_S):
            self._configure_own(connection)
        connection.answered_at = monotonic()
        with self._state_lock:
            self._connections.add(connection)
            self._is_away = False

    def _prove(self, connection: Connection) -> None:
        """Check that a connection works, unless the server has just responded on it.

        If the check fails, the other connections are probably broken too, so all are replaced.
        """
        if connection.is_proven:
            return
        try:
            with database_within(_PROVEN_WITHIN_S):
                self.check_connection(connection)
        except Exception:
            self._replace_all(connection)
            raise

    def _return_connection(self, conn: Connection, from_getconn: bool) -> None:
        """Take a connection back. If it broke in use, the others are broken too, or about to be.

        They may have responded a moment ago, and would be handed out without a check.
        """
        if conn.closed and not conn.was_given_up:
            self._replace_all(conn)
        super()._return_connection(conn, from_getconn)

    def _replace_all(self, broken: Connection) -> None:
        """Replace the connections that are as old as the broken one, once for all of them."""
        if broken.made_at > self._stale_before:
            self._stale_before = monotonic()
            self.drain()

    def _add_connection(self, attempt: AttemptWithBackoff | None, growing: bool = False) -> None:
        """Try to connect, and go on trying: see ``_Attempt``.

        However many connections are missing, one attempt at a time tells that there is no server:
        one that is starting has other things to do than to refuse them.
        """
        attempt, now = attempt or _Attempt(timeout=self.reconnect_timeout), monotonic()
        is_early = now < self._failed_at + _POOL_RETRY_S * (1 - _Attempt.DELAY_JITTER)
        if is_early and not attempt.time_to_give_up(now):
            attempt.update_delay(now)
            self.schedule_task(AddConnection(self, attempt, growing=growing), attempt.delay)
        else:
            super()._add_connection(attempt, growing)

    def _connect(self, timeout: float | None = None) -> Connection:
        try:
            connection = super()._connect(timeout)
        except Exception:
            self._failed_at = monotonic()
            raise
        self._failed_at = 0.0
        return connection

    def _note_away(self) -> None:
        """Handle a failure to connect: too many connections, or an unavailable database."""
        with self._state_lock:
            all_closed = all(connection.closed for connection in self._connections)
            self._is_away = self._is_away or all_closed
            self._connect_again_at = monotonic() + _CONNECT_AGAIN_S
        if self._is_away:
            self._fail_waiting()

    def _may_connect(self) -> bool:
        """Return False if the database is unavailable and it is too soon to try again."""
        with self._state_lock:
            if self._is_away and monotonic() < self._connect_again_at:
                return False
            self._connect_again_at = monotonic() + _CONNECT_AGAIN_S
            return True


def _no_database() -> PoolTimeout:
    return PoolTimeout("there is no database at the moment")


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = DatabaseSchemaEditor
    # Django's attributes, which its stubs lack.
    _connection_pools: dict[str, ConnectionPool[Any]]
    _configure_connection: Callable[[psycopg.Connection[Any]], None]

    @property
    def pool(self) -> Any:
        options = self.settings_dict["OPTIONS"].get("pool")
        is_missing = self.alias not in self._connection_pools
        if options and is_missing and self.alias != NO_DB_ALIAS:
            # If two threads get here at once, the first one's pool is kept. Neither is open yet.
            made = Pool(
                kwargs={**self.get_connection_params(), "autocommit": True},
                open=False,
                configure=self._configure_connection,
                **options,
            )
            self._connection_pools.setdefault(self.alias, made)
        return super().pool

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.pool:
            return super().get_new_connection(conn_params)
        # As Django does, but with our time limits: code may open a connection outside the pool.
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return Connection.connect(**conn_params)
