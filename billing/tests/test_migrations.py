"""dj-stripe's tables: as they are during development, and as its own migrations make them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from config.tests.test_settings import PRODUCTION
from core.tests.web import database_url

ROOT = Path(__file__).resolve().parents[2]

# But for the keys of dj-stripe's joining tables, which its models would make smaller than it did.
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, character_maximum_length
    FROM information_schema.columns
    WHERE table_schema = 'public' AND NOT (table_name LIKE '%taxrate' AND column_name = 'id')
"""


@pytest.fixture
def production_url(transactional_db: None) -> Iterator[str]:
    """The address of an empty database, beside that of the tests."""
    name = f"{connection.settings_dict['NAME']}_migrated"
    drop = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    with psycopg.connect(database_url(), autocommit=True) as server:
        server.execute(drop)
        server.execute(create)
        yield database_url().replace(f"/{connection.settings_dict['NAME']}?", f"/{name}?")
        server.execute(drop)


def manage(url: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env={"PATH": os.environ["PATH"], **PRODUCTION, "DATABASE_URL": url},
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )


def test_production_has_the_tables_of_development(production_url: str) -> None:
    """Takes a minute: dj-stripe's migrations do."""
    manage(production_url, "migrate", "--no-input")
    manage(production_url, "makemigrations", "--check", "--dry-run")
    with psycopg.connect(production_url) as production:
        migrated = set(production.execute(COLUMNS).fetchall())
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        made = set(cursor.fetchall())
    assert any(table == "djstripe_subscription" for table, *_ in migrated)
    of_the_sandbox = {row for row in made if row[0].startswith("sandbox_")}
    assert migrated == made - of_the_sandbox
