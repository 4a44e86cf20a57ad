"""Liveness and readiness, for a load balancer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from threading import Event

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import sync_and_async_middleware

from config.connections import database_within, give_connection_back

_drain = Event()

# Probes give up after a few seconds. It is a little longer if the database hangs.
_ANSWERED_WITHIN_S = 1.2


class MigrationsMissing(Exception):
    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


@sync_and_async_middleware
def health_checks(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    """Answer ``/livez`` and ``/readyz`` before all that a probe knows nothing of.

    It comes to a machine's address, over plain HTTP: the checks of host and TLS would refuse it.
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
    """The process answers."""
    return JsonResponse({"status": "ok"})


def stop_being_ready() -> None:
    """From now on this process takes no new calls, and wants no new requests either."""
    _drain.set()


def readyz(request: HttpRequest) -> HttpResponse:
    """The database answers, no migration is missing, and the process is not about to stop."""
    if _drain.is_set():
        return JsonResponse({"status": "draining"}, status=503)
    try:
        with database_within(_ANSWERED_WITHIN_S):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            require_migrations()
    except (DatabaseError, InterfaceError):
        return JsonResponse({"status": "database_unavailable"}, status=503)
    except MigrationsMissing as missing:
        return JsonResponse({"status": "migrations_missing", "count": missing.count}, status=503)
    finally:
        give_connection_back()
    return JsonResponse({"status": "ok"})


@cache  # of success alone: this process knows no other migrations later
def require_migrations() -> None:
    """Raise :class:`MigrationsMissing` unless every migration of this code was applied."""
    executor = MigrationExecutor(connection)
    if missing := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise MigrationsMissing(len(missing))
