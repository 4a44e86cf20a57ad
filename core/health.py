"""Liveness and readiness, for a load balancer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from threading import Event, Lock
from time import monotonic
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import sync_and_async_middleware

from core.connections import database_within, give_connection_back
from core.version import VERSION

_drain = Event()

# Probes time out after a few seconds. It takes half a second longer if the database hangs.
_ANSWERED_WITHIN_S = 1.0


class MigrationsMissing(Exception):
    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


@sync_and_async_middleware
def health_checks(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    """Serve ``/livez`` and ``/readyz`` before all other middleware.

    Probes use a machine's address over plain HTTP, which the checks of host and TLS would reject.
    """
    checks = {"/livez": livez, "/readyz": readyz}

    def middleware(request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        check = checks.get(request.path)
        return check(request) if check else get_response(request)

    async def async_middleware(request: HttpRequest) -> HttpResponse:
        check = checks.get(request.path)
        return await (sync_to_async(check)(request) if check else get_response(request))  # type: ignore[misc]

    return async_middleware if iscoroutinefunction(get_response) else middleware


def livez(request: HttpRequest) -> HttpResponse:
    """Return 200 if the process responds."""
    return JsonResponse({"status": "ok"})


def stop_being_ready() -> None:
    """Mark this process as draining, so that it gets no new calls or requests."""
    _drain.set()


def readyz(request: HttpRequest) -> HttpResponse:
    """Return 200 if the database responds, migrations are applied and no drain is in progress."""
    if _drain.is_set():
        status, body = 503, {"status": "draining"}
    else:
        status, body = _readiness.of_now()
    return JsonResponse({**body, "version": VERSION}, status=status)


class _Readiness:
    """A status and a body. Of concurrent probes, one queries the database.

    So none waits for more than one timeout if the database hangs, however many probes there are.
    """

    def __init__(self) -> None:
        self._asking = Lock()
        self._found_at = 0.0
        self._found: tuple[int, dict[str, Any]]

    def of_now(self) -> tuple[int, dict[str, Any]]:
        since = monotonic()
        with self._asking:
            if self._found_at < since:
                self._found = _look()
                self._found_at = monotonic()
            return self._found


_readiness = _Readiness()


def _look() -> tuple[int, dict[str, Any]]:
    try:
        with database_within(_ANSWERED_WITHIN_S):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            require_migrations()
    except (DatabaseError, InterfaceError):
        return 503, {"status": "database_unavailable"}
    except MigrationsMissing as missing:
        return 503, {"status": "migrations_missing", "count": missing.count}
    finally:
        give_connection_back()
    return 200, {"status": "ok"}


@cache  # caches success only: this process's migrations do not change
def require_migrations() -> None:
    """Raise :class:`MigrationsMissing` unless every migration of this code was applied."""
    executor = MigrationExecutor(connection)
    if missing := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise MigrationsMissing(len(missing))
