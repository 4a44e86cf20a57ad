"""The database from async code, without holding a connection while somebody is waited for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings

from config.connections import run_and_let_go

P = ParamSpec("P")
R = TypeVar("R")

# Threads of its own, as many as there are connections: queries wait for their turn here, not for
# the pool, and never behind a slow name look-up in the event loop's own threads.
_threads = ThreadPoolExecutor(
    settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"], thread_name_prefix="database"
)


async def in_database(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that queries in a thread, and give the thread's connection back after it.

    The function runs to its end even when the caller is cancelled. It cannot see what an open
    transaction of another thread has not committed.
    """
    run = sync_to_async(run_and_let_go, thread_sensitive=False, executor=_threads)
    return await run(function, *args, **kwargs)
