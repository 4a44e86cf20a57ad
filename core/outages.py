"""Tells outages of the database from errors of a query."""

from __future__ import annotations

import django.db
import psycopg

_AWAY = (
    django.db.OperationalError,
    django.db.InterfaceError,
    psycopg.OperationalError,  # a pool's time-out is one of them
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,  # a replica that has not taken over yet
)


def is_outage(error: BaseException | None) -> bool:
    """Return True if an error, or one that caused it, means that the database is unavailable."""
    while error is not None:
        if isinstance(error, _AWAY):
            return True
        error = error.__cause__
    return False


def cause_of(error: BaseException) -> str:
    """Return the name of an error's root cause, such as psycopg's, which says the most."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
