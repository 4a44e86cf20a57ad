"""Tells outages of the database from errors of a query."""

from __future__ import annotations

import django.db
import psycopg


class NoResponse(psycopg.OperationalError):
    """A limit of ours on waiting for the database has passed: it is slow, or hangs."""


# Besides errors without a code, which come from the client when the server closes the connection.
_CUT_CODES = ("08", "57P01", "57P02", "57P03")

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


def was_cut(error: BaseException) -> bool:
    """Return True if a connection broke while it was used, and another one may work at once.

    The transaction may have been committed or not: the connection may have broken before the server
    could confirm its COMMIT.
    """
    root = _root_of(error)
    if not isinstance(root, psycopg.OperationalError):
        return False
    if root.sqlstate is None:
        return type(root) is psycopg.OperationalError  # others are time-outs
    return root.sqlstate.startswith(_CUT_CODES)


def cause_of(error: BaseException) -> str:
    """Return the name of an error's root cause, such as psycopg's, which says the most."""
    return type(_root_of(error)).__name__


def _root_of(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
