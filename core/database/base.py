"""Connections that are not waited for forever, and a pool that is well again soon.

PostgreSQL's own time limits do not end a wait for a server that hangs, nor for a network that
swallows everything, and PgBouncer refuses them in the startup packet. So the limit is kept on this
side, as ``core.connections`` says, and the server is told of it with each transaction's BEGIN: in
the same message, which costs no round trip and holds for no other client of a PgBouncer.
"""

from __future__ import annotations

import select
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

from core.connections import database_within, patience
from core.database.schema import DatabaseSchemaEditor

RV = TypeVar("RV")

# How long an answer proves that a connection works: under load none is asked twice.
_PROVEN_FOR_S = 1.0
_PROVEN_WITHIN_S = 1.0
_CONFIGURED_WITHIN_S = 2.0
# To ask the server to stop what nobody waits for any more.
_CANCELLED_WITHIN_S = 0.5
# Whether a server that says nothing on any connection hangs, or is busy with what it was asked, a
# new connection tells: a healthy one lets somebody in however long its queries take.
_SILENT_AFTER_S = 0.5
# While there is no database, one request in so many seconds looks for it, and the others fail at
# once: if all waited, nobody would be left to answer.
_LOOKS_AGAIN_S = 1.0
_ASKS_AGAIN_S = 0.2
# For a client that stops in the middle of a transaction, with its locks. Nothing of ours pauses for
# as long there.
_IDLE_IN_TRANSACTION_MS = 60_000


class Connection(psycopg.Connection[Any]):
    """Psycopg's, within the patience of whoever waits."""

    made_at = answered_at = 0.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit = _limit()
        if not isinf(limit):
            timeout = min(limit, timeout or limit)
            gen = self._unless_it_hangs(gen)
        try:
            result = super().wait(gen, interval, timeout)
        except errors._WaitTimeout:
            self._give_up()
            message = f"The database did not answer within {timeout:.1f} s."
            raise psycopg.OperationalError(message) from None
        except errors.ReadOnlySqlTransaction:
            # It has become another server's standby: all connections are made anew, and this one
            # when it comes back.
            if pool := self._pool_of_ours:
                pool.drain()
            raise
        self.answered_at = monotonic()
        if pool := self._pool_of_ours:
            pool.heard_at = self.answered_at
        return result

    def _unless_it_hangs(self, gen: PQGen[RV]) -> PQGen[RV]:
        """Give up as soon as it is known that the server hangs: no answer will come in time."""
        began, pool = monotonic(), self._pool_of_ours
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and pool:  # an interval of the wait is over
                    if pool.has_lost(self):
                        self.pgconn.finish()
                        raise psycopg.OperationalError("The database does not answer.")
                    pool.look_if_silent(since=began)
                state = gen.send(ready)
        except StopIteration as ended:
            return cast(RV, ended.value)

    def _give_up(self) -> None:
        """Close: what was asked may be answered later, and would be taken for another answer."""
        pool = self._pool_of_ours
        is_heard = pool is None or monotonic() - pool.heard_at < _PROVEN_FOR_S
        if self.autocommit and is_heard:  # a transaction has told the server its limit
            self._try_cancel(timeout=_CANCELLED_WITHIN_S)
        self.pgconn.finish()

    def _start_query(self) -> PQGen[None]:
        """Begin a transaction, if one is to begin, and tell the server how long it may take."""
        limit, is_to_begin = _limit(), self.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if isinf(limit) or self.autocommit or not is_to_begin:
            yield from super()._start_query()
            return
        # A little less than on this side: the server's answer says more than none. It holds for
        # waiting for a lock, too.
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
        pool = getattr(self, "_pool", None)  # psycopg's attribute is not there without a pool
        return pool if isinstance(pool, Pool) else None

    @property
    def is_proven(self) -> bool:
        """Whether it has just answered, and has not been closed by the server since."""
        if monotonic() - self.answered_at > _PROVEN_FOR_S:
            return False
        said = select.poll()
        said.register(self.pgconn.socket, select.POLLIN)
        return not said.poll(0)


def _limit() -> float:
    """Return how many seconds the next answer may take."""
    now = patience()
    return max(0.0, min(now.answer, now.left))


class Pool(ConnectionPool[Connection]):
    """A pool that gives out what works, and nothing at all while there is no database.

    ``heard_at`` is when the server has last answered on any of its connections.
    """

    def __init__(self, *, configure: Callable[[Connection], None], **options: Any) -> None:
        self._configure_own = configure
        self._connections: WeakSet[Connection] = WeakSet()
        self._stale_before = 0.0
        self.heard_at = 0.0
        self._is_away = False
        self._hung_at = 0.0
        self._look_again_at = 0.0
        self._next_look_at = 0.0
        self._looking = Lock()
        super().__init__(
            connection_class=Connection,
            configure=self._configured,
            check=self._prove,
            reconnect_failed=lambda _: self._note_away(),
            **options,
        )

    def getconn(self, timeout: float | None = None) -> Connection:
        """Return a connection; raise :class:`PoolTimeout` if there is none in time.

        Who may wait for any answer, such as a command, asks again until then.
        """
        now = patience()
        most = now.connection if timeout is None else timeout
        until = monotonic() + max(0.0, min(most, now.left))
        while True:
            try:
                if not self._may_look():
                    raise _no_database()
                return super().getconn(max(0.0, until - monotonic()))
            except PoolTimeout:
                if not isinf(now.answer) or monotonic() + _ASKS_AGAIN_S > until:
                    raise
                sleep(_ASKS_AGAIN_S)

    def has_lost(self, connection: Connection) -> bool:
        """Whether a connection is from before the server hung, which it does still."""
        return self._is_away and connection.made_at < self._hung_at

    def look_if_silent(self, since: float) -> None:
        """Find out whether the server hangs, if there is reason to, and nobody does so already.

        :param since: when the wait began that may have no end.
        """
        now = monotonic()
        if now < max(self.heard_at, since) + _SILENT_AFTER_S:
            return
        with self._looking:
            if self._is_away or now < self._next_look_at:
                return
            self._next_look_at = inf
        try:
            Thread(target=self._look, name="database-look", daemon=True).start()
        except RuntimeError:  # the system gives us no thread at the moment
            self._next_look_at = now + _SILENT_AFTER_S

    def _look(self) -> None:
        began = monotonic()
        try:
            self._connects()
        except psycopg.errors.ConnectionTimeout:
            if self.heard_at < began:
                self._note_hanging()
        except psycopg.Error:
            pass  # refused: by a server that answers, or whose connections have all been closed
        else:
            self.heard_at = monotonic()
        finally:
            self._next_look_at = monotonic() + _SILENT_AFTER_S

    def _connects(self) -> None:
        """Make a connection in the time that any other has, and leave."""
        self.connection_class.connect(self._resolve_conninfo(), **self._resolve_kwargs()).close()

    def _note_hanging(self) -> None:
        """Nobody waits any longer for what was asked, and nothing is asked on what is open."""
        with self._looking:
            self._is_away = True
            self._hung_at = monotonic()
            self._look_again_at = self._hung_at + _LOOKS_AGAIN_S
        self.drain()
        self._send_away()

    def _send_away(self) -> None:
        """Tell those who wait for a connection that there is none."""
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
        with self._looking:
            self._connections.add(connection)
            self._is_away = False

    def _prove(self, connection: Connection) -> None:
        """Ask a connection whether it works, unless it has just answered.

        If it does not, the others have probably gone the same way: all of them are made anew.
        """
        if connection.is_proven:
            return
        try:
            with database_within(_PROVEN_WITHIN_S):
                self.check_connection(connection)
        except Exception:
            if connection.made_at > self._stale_before:
                self._stale_before = monotonic()
                self.drain()
            raise

    def _note_away(self) -> None:
        """Nobody could connect: there are too many connections, or there is no database."""
        with self._looking:
            all_closed = all(connection.closed for connection in self._connections)
            self._is_away = self._is_away or all_closed
            self._look_again_at = monotonic() + _LOOKS_AGAIN_S
        if self._is_away:
            self._send_away()

    def _may_look(self) -> bool:
        with self._looking:
            if self._is_away and monotonic() < self._look_again_at:
                return False
            self._look_again_at = monotonic() + _LOOKS_AGAIN_S
            return True


def _no_database() -> PoolTimeout:
    return PoolTimeout("there is no database at the moment")


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = DatabaseSchemaEditor
    # Django's, which its stubs do not know.
    _connection_pools: dict[str, ConnectionPool[Any]]
    _configure_connection: Callable[[psycopg.Connection[Any]], None]

    @property
    def pool(self) -> Any:
        options = self.settings_dict["OPTIONS"].get("pool")
        is_missing = self.alias not in self._connection_pools
        if options and is_missing and self.alias != NO_DB_ALIAS:
            # Of two threads that come here at once, the first one's is kept; none is open yet.
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
        # As Django's, but with a limit as well: somebody may have a connection beside the pool.
        self.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return Connection.connect(**conn_params)
