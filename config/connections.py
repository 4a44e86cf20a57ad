"""Database connections, which are few, and are not to be held by whoever waits."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import connection, connections

P = ParamSpec("P")
R = TypeVar("R")


def give_connection_back() -> None:
    """Leave this thread's connection to others; the next query takes one from the pool again.

    For the moment before something slow that queries nothing. An open transaction keeps its own.
    """
    if not connection.in_atomic_block:
        connection.close()


def run_and_let_go(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that queries in a thread of its own, and give the thread's connection back."""
    try:
        return function(*args, **kwargs)
    finally:
        connections.close_all()
