"""Checks of the database."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextlib import closing
from time import monotonic, sleep
from typing import Any

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from procrastinate.contrib.django.utils import connector_params
from psycopg.sql import SQL, Identifier

from accounts.models import WebhookSecret
from billing.models import PlanPart
from core.queue.connection import DIRECT, queue_database
from core.replica import REPLICA
from core.sealing import opens
from operations.doctor.checks.processes import running_now
from operations.doctor.findings import Check, Finding, Options, failed, ok, warning

_CONNECT_WITHIN_S = 5
_OLDEST = 14
_HEARD_WITHIN_S = 3.0
_REPLAYED_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.05
# Of what is left of max_connections, for psql, backups and whatever else has to get in.
_MOST_USED = 0.8
# Connections that a process opens beside its pool.
_BESIDE_THE_POOL = {"web": 0, "engine": 1, "worker": 3}

# What PostgreSQL and libpq say → what to do.
_REMEDIES = (
    (
        r"resolve host|translate host|Name or service|nodename|name resolution",
        "The host in DATABASE_URL has no address here. Correct it, or this machine's name server.",
    ),
    (
        r"Connection refused|No such file",
        "Nothing listens there. Start PostgreSQL, or correct host and port in DATABASE_URL. Its "
        "listen_addresses must include that address.",
    ),
    (
        r"password authentication failed|no password supplied|authentication failed",
        "Correct the user or the password in DATABASE_URL, with special characters "
        "percent-encoded.",
    ),
    (r"pg_hba\.conf", "Allow this host, user and database in pg_hba.conf, and reload PostgreSQL."),
    (
        r"database .* does not exist|no such database",
        "Create the database with createdb, or correct its name in DATABASE_URL.",
    ),
    (r"role .* does not exist", "Create the user with createuser, or correct DATABASE_URL."),
    (
        r"too many|connection slots|connection limit",
        "All connections are in use. Stop a process, raise max_connections, or lower "
        "DATABASE_POOL_SIZE.",
    ),
    (
        r"time-?out|timed out|unreachable|No route",
        "The host does not respond. Is it running, and does a firewall let this machine in?",
    ),
    (r"SSL|TLS|certificate", "Correct sslmode and sslrootcert in DATABASE_URL."),
    (r"starting up|shutting down|recovery", "Try again in a minute: PostgreSQL is not ready."),
)


def connected(alias: str = DEFAULT_DB_ALIAS) -> psycopg.Connection[Any]:
    """Return a connection of the doctor's own, not of the pool, which would say less."""
    known = connector_params(alias) | {"connect_timeout": _CONNECT_WITHIN_S}
    return psycopg.connect(**known, autocommit=True)


def _database(subject: str, options: Options) -> Iterable[Finding]:
    try:
        connection = connected()
    except psycopg.Error as error:
        yield _no_connection(error, "DATABASE_URL")
        return
    with closing(connection):
        yield from _server(connection)


def _no_connection(error: psycopg.Error, variable: str) -> Finding:
    said = str(error).removeprefix("connection failed: ").strip().partition("\n")[0]
    remedies = (todo for pattern, todo in _REMEDIES if re.search(pattern, str(error)))
    todo = next(remedies, "Correct DATABASE_URL, or what PostgreSQL complains about.")
    return failed(f"No connection: {said}", todo.replace("DATABASE_URL", variable))


def _server(connection: psycopg.Connection[Any]) -> Iterable[Finding]:
    version = connection.info.server_version
    [facts] = connection.execute(
        "SELECT current_database(), current_setting('server_encoding'), pg_is_in_recovery(), "
        "current_setting('default_transaction_read_only') = 'on', current_setting('TimeZone')"
    ).fetchall()
    name, encoding, is_standby, is_read_only, zone = facts
    # Connections of ours set UTC themselves, whatever the server's zone is.
    yield ok(
        f"Connected to {name!r} on PostgreSQL {version // 10_000}.{version % 10_000}, {encoding}, "
        f"time zone {zone}."
    )
    if version // 10_000 < _OLDEST:
        yield failed(
            f"PostgreSQL {version // 10_000} is too old.",
            f"Upgrade it to {_OLDEST} or newer, best to 17.",
        )
    if encoding != "UTF8":
        yield failed(
            f"The database's encoding is {encoding}: most names and transcripts cannot be stored.",
            "Create the database anew with createdb --encoding UTF8 --template template0, and "
            "restore into it.",
        )
    if is_standby or is_read_only:
        yield failed(
            "The server accepts no writes: it is a standby, or read-only.",
            "Let DATABASE_URL name the primary, or promote this server.",
        )


DATABASE = Check(
    "database",
    "Database",
    "Whether `DATABASE_URL` connects; PostgreSQL 14 or newer, UTF-8, writable.",
    _database,
    needs=("DATABASE_URL",),
)


def _migrations(subject: str, options: Options) -> Iterable[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        first = missing[0][0]
        yield failed(
            f"{_counted(len(missing), 'migration')} not applied, from {first.app_label} "
            f"{first.name} on: web processes and engines are not ready.",
            "Run python manage.py migrate. It can run while the previous release serves.",
        )
    known = executor.loader.disk_migrations or {}
    ours = {app for app, _ in known}
    applied = MigrationRecorder(connection).applied_migrations()
    replaced = {old for each in known.values() for old in each.replaces}
    newer = sorted(each for each in applied.keys() - known.keys() - replaced if each[0] in ours)
    if newer:
        app, name = newer[-1]
        yield warning(
            f"The database is newer than this code: it has {app} {name}, which is unknown here.",
            "Deploy the release that migrated it. If you went back to an older one on purpose, see "
            "docs/production.md.",
        )
    if not missing and not newer:
        yield ok("Every migration of this release is applied, and no other.")


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


MIGRATIONS = Check(
    "migrations",
    "Migrations",
    "Migrations that are missing, or that come from a newer release.",
    _migrations,
    needs=("DATABASE_URL",),
    needs_database=True,
)


def _pooler(subject: str, options: Options) -> Iterable[Finding]:
    try:
        listening = connected(queue_database())
    except psycopg.Error as error:
        yield _no_connection(error, _queue_variable())
        return
    with closing(listening), closing(connected()) as telling:
        if _identity(listening) != _identity(telling):
            yield failed(
                "DATABASE_DIRECT_URL is not the database of DATABASE_URL: workers find no jobs.",
                "Let both name the same database of the same server.",
            )
            return
        has_pooler = is_pooled(telling)
        if has_pooler:
            yield from _transactions()
        if not _hears(listening, telling):
            yield failed(
                f"Notifications do not arrive at {_queue_variable()}: a pooler such as PgBouncer "
                "shares connections per transaction. Workers hear of no new jobs, and start them "
                "late.",
                "Set DATABASE_DIRECT_URL to the address of PostgreSQL itself, or of a pool with "
                "pool_mode = session. Everything else keeps using DATABASE_URL.",
            )
        elif has_pooler:
            yield ok("There is a pooler in front of PostgreSQL, and notifications arrive.")
        else:
            yield ok("PostgreSQL is connected directly, and notifications arrive.")


def _queue_variable() -> str:
    return "DATABASE_DIRECT_URL" if queue_database() == DIRECT else "DATABASE_URL"


def _identity(connection: psycopg.Connection[Any]) -> Any:
    """Return what a database has in common with its replicas, and with no other."""
    try:
        return connection.execute(
            "SELECT current_database(), system_identifier FROM pg_control_system()"
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return connection.execute("SELECT current_database()").fetchone()


def _transactions() -> Iterable[Finding]:
    """Find what a pooler must not do, or not be asked for."""
    with closing(connected()) as pooled:
        try:
            with pooled.transaction():
                pooled.execute("SELECT")
        except psycopg.Error:
            yield failed(
                "The pooler lets no transaction span several statements.",
                "Set pool_mode = transaction for this database.",
            )
    if pooled.prepare_threshold is not None:
        yield warning(
            "DATABASE_URL sets prepare_threshold, and a pooler may forget prepared statements.",
            "Remove it from DATABASE_URL: Switchhook prepares none by itself.",
        )


def _hears(listening: psycopg.Connection[Any], telling: psycopg.Connection[Any]) -> bool:
    channel = f"doctor_{secrets.token_hex(8)}"
    try:
        listening.execute(SQL("LISTEN {}").format(Identifier(channel)))
        telling.execute("SELECT pg_notify(%s, '')", [channel])
        return any(True for _ in listening.notifies(timeout=_HEARD_WITHIN_S, stop_after=1))
    except psycopg.errors.ReadOnlySqlTransaction:  # a standby
        return False


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Return True if a pooler is in front: it makes up the process id that it greets with."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


POOLER = Check(
    "pooler",
    "Pooler",
    "A PgBouncer in front: its pool mode, prepared statements, and whether a worker hears "
    "notifications through `DATABASE_DIRECT_URL`, which is the same database.",
    _pooler,
    needs=("DATABASE_URL", "DATABASE_DIRECT_URL"),
    needs_database=True,
)


def _replica(subject: str, options: Options) -> Iterable[Finding]:
    if REPLICA not in connections.settings:
        yield ok("DATABASE_REPLICA_URL is not set: lists are read from the primary.")
        return
    try:
        copy = connected(REPLICA)
    except psycopg.Error as error:
        yield _no_connection(error, "DATABASE_REPLICA_URL")
        return
    with closing(copy), closing(connected()) as primary:
        if _identity(copy) != _identity(primary):
            yield failed(
                "It is no replica of the database of DATABASE_URL, but another one.",
                "Let DATABASE_REPLICA_URL name a streaming replica of that server.",
            )
        elif copy.execute("SELECT pg_is_in_recovery()").fetchone() != (True,):
            yield failed(
                "It replays nothing, because it is a primary: lists are read from DATABASE_URL.",
                "Let DATABASE_REPLICA_URL name a streaming replica, or remove it.",
            )
        else:
            yield _lag(primary, copy)


def _lag(primary: psycopg.Connection[Any], copy: psycopg.Connection[Any]) -> Finding:
    [(written,)] = primary.execute("SELECT pg_current_wal_lsn()::text").fetchall()
    until = monotonic() + _REPLAYED_WITHIN_S
    while (behind := _bytes_behind(copy, written)) > 0:
        if monotonic() > until:
            return warning(
                f"It is {behind:,} bytes of the log behind, after {_REPLAYED_WITHIN_S:g} s: lists "
                "are read from the primary.",
                "See pg_stat_replication on the primary and the replica's log. Has it stopped "
                "replaying, or is it too slow?",
            )
        sleep(_LOOK_EVERY_S)
    return ok("The replica has replayed what the primary has written.")


def _bytes_behind(copy: psycopg.Connection[Any], written: str) -> int:
    behind = "SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn())::bigint"
    [(number,)] = copy.execute(behind, [written]).fetchall()
    return int(number)


REPLICA_CHECK = Check(
    "replica",
    "Replica",
    "Whether `DATABASE_REPLICA_URL` is a streaming replica of the same database, and keeps up.",
    _replica,
    needs=("DATABASE_URL", "DATABASE_REPLICA_URL"),
    needs_database=True,
)

_CONNECTIONS = """
SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND datname <> current_database())
"""


def _connections(subject: str, options: Options) -> Iterable[Finding]:
    with closing(connected()) as direct:
        if is_pooled(direct):
            yield ok("A pooler limits the connections to PostgreSQL.")
            return
        [row] = direct.execute(_CONNECTIONS).fetchall()
    most, of_database, of_role, elsewhere = row
    left = min(limit for limit in (most - elsewhere, of_database, of_role) if limit is not None)
    processes = options.processes or running_now()
    needed = sum(count * _of_one(kind) for kind, count in processes.items())
    counted = ", ".join(f"{kind}: {count}" for kind, count in processes.items())
    said = f"All processes ({counted}) may open {needed} connections, and PostgreSQL allows {left}"
    remedy = (
        f"Raise max_connections, or lower DATABASE_POOL_SIZE ({_pool_size()}), or put PgBouncer in "
        "front. Count what runs during a deployment as well, with --processes "
        "web=2,engine=4,worker=1."
    )
    if needed > left:
        yield failed(f"{said}: the last ones fail.", remedy)
    elif needed > left * _MOST_USED:
        yield warning(f"{said}: little is left.", remedy)
    else:
        yield ok(f"{said}.")


def _of_one(kind: str) -> int:
    return _pool_size() + _BESIDE_THE_POOL.get(kind, 1)


def _pool_size() -> int:
    size: int = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    return size


CONNECTIONS = Check(
    "connections",
    "Connections",
    "Whether all processes' pools fit into `max_connections`.",
    _connections,
    needs=("DATABASE_URL", "DATABASE_POOL_SIZE"),
    needs_database=True,
)


def _sealed(subject: str, options: Options) -> Iterable[Finding]:
    unreadable = [what for what, is_readable in _samples() if not is_readable]
    if unreadable:
        yield failed(
            f"SECRET_KEY does not decrypt what the database holds: {', '.join(unreadable)}.",
            "Set SECRET_KEY to the key that encrypted it, or add that key to SECRET_KEY_FALLBACKS. "
            "A restored database needs the keys it was used with.",
        )
    else:
        yield ok("What the database holds encrypted can be decrypted.")


def _samples() -> Iterable[tuple[str, bool]]:
    """Return the oldest and the newest of what is encrypted for long, and whether it opens."""
    secrets = WebhookSecret.objects.order_by("pk")
    for what, found in (
        ("the oldest webhook secret", secrets.first()),
        ("the newest webhook secret", secrets.last()),
    ):
        if found:
            yield what, found.opens()
    for part in PlanPart.objects.all():
        if part.sealed_secret is not None:
            yield (
                f"the secret of Stripe's {part.get_name_display()}",
                opens(part.sealed_secret, purpose=PlanPart.PURPOSE),
            )


SEALED = Check(
    "secret-key",
    "SECRET_KEY",
    "Whether `SECRET_KEY` and its fallbacks decrypt what the database holds.",
    _sealed,
    needs=("DATABASE_URL", "SECRET_KEY", "SECRET_KEY_FALLBACKS"),
    needs_database=True,
)
