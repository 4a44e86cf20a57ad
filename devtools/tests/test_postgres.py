"""The embedded PostgreSQL, started in a folder with a space in its name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from devtools.postgres import server_of

ROOT = Path(__file__).resolve().parents[2]
# Uses the server, prints its URL, and exits when its input ends.
USER = """
import sys; from pathlib import Path; from devtools.postgres import embedded_url
print(embedded_url(Path(sys.argv[1])), flush=True); sys.stdin.read()
"""


@pytest.fixture
def local() -> Iterator[Path]:
    """A ``.local`` that the server's user can access, unlike pytest's own folder."""
    with tempfile.TemporaryDirectory(prefix="with a space ") as folder:
        Path(folder).chmod(0o755)
        local = Path(folder) / ".local"
        base = server_of(local).base
        yield local
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def user_of(local: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that uses the server until the end of the block, and the server's URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, local],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def answers(url: str) -> bool:
    try:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_it_works(local: Path) -> None:
    with user_of(local) as (_, url):
        assert answers(url)
    assert not answers(url)


def test_the_last_user_stops_it(local: Path) -> None:
    with user_of(local) as (_, first):
        with user_of(local) as (_, second):
            assert first == second
        assert answers(first)
    assert not answers(first)


def test_a_killed_user_no_longer_counts(local: Path) -> None:
    with user_of(local) as (process, _):
        process.kill()
    with user_of(local) as (_, url):
        assert answers(url)
    assert not answers(url)


def test_the_log_contains_no_values(local: Path) -> None:
    with user_of(local) as (_, url), psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE thing (name text UNIQUE)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO thing VALUES ('canary'), ('canary')")
    log = server_of(local).log.read_text()
    assert "duplicate key" in log
    assert "canary" not in log
