"""Databases beside that of the tests, and how to use one in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection, connections
from psycopg import sql

from core.database.base import DatabaseWrapper
from core.tests.web import database_url


@contextmanager
def database_beside(suffix: str) -> Iterator[str]:
    """Create a database without tables, yield its name, and drop it at the end."""
    name = f"{connection.settings_dict['NAME']}_{suffix}"
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(database_url(), autocommit=True) as server:
        server.execute(drop)
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            server.execute(drop)


def url_of(name: str) -> str:
    """Return the URL of a database on the tests' server."""
    return database_url().replace(f"/{connection.settings_dict['NAME']}?", f"/{name}?")


@contextmanager
def as_default_database(name: str) -> Iterator[DatabaseWrapper]:
    """Let this thread's ``connection`` be one to another database, outside of the pool."""
    known = connections["default"]
    options = {key: value for key, value in known.settings_dict["OPTIONS"].items() if key != "pool"}
    other = DatabaseWrapper({**known.settings_dict, "NAME": name, "OPTIONS": options}, "default")
    connections["default"] = other
    try:
        yield other
    finally:
        other.close()
        connections["default"] = known
