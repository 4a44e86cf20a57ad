"""Database connections, which are few, and are not to be held by whoever waits."""

from django.db import connection


def give_connection_back() -> None:
    """Leave this thread's connection to others; the next query takes one from the pool again.

    For the moment before something slow that queries nothing. An open transaction keeps its own.
    """
    if not connection.in_atomic_block:
        connection.close()
