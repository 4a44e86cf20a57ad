"""The product with its database behind a PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.audit import AuditEvent
from accounts.models import Account, ApiKey, digest_of, new_api_key
from core.connections import run_and_let_go
from core.tests.bouncer import pgbouncer
from core.tests.long import only_in_all
from core.tests.waiting import until
from core.tests.web import ROOT, database_url, web_process
from telephony.tasks import forget_calls

PROGRAM = shutil.which("pgbouncer")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed"),
    only_in_all("a PgBouncer, a worker and a web process"),
]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[str]:
    """Yield the URL of the test database, through PgBouncer."""
    with pgbouncer(str(PROGRAM), tmp_path) as port:
        known = connection.settings_dict
        yield f"postgresql://{known['USER']}@127.0.0.1:{port}/{known['NAME']}"


@contextmanager
def worker(**environment: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker"],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings_test", **environment},
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            yield
        finally:
            process.kill()


def is_listening() -> bool:
    """Return True if a connection listens, and nobody else has used it since."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN %%'",
            [],
        )
        return cursor.fetchone() is not None


def wait_until(is_so: Callable[[], bool]) -> None:
    asyncio.run(until(lambda: asyncio.to_thread(run_and_let_go, is_so)))


def test_web_and_worker(behind: str, alice: Account) -> None:
    key = new_api_key()
    ApiKey.objects.create(account=alice, label="k", prefix=key[:7], digest=digest_of(key))
    url = {"DATABASE_URL": behind}
    with (
        web_process(workers=2, **url) as web,
        worker(**url, DATABASE_DIRECT_URL=database_url()),
    ):
        headers = {"Authorization": f"Bearer {key}"}
        wait_until(is_listening)
        # Psycopg would prepare a statement at its fifth execution, if it were allowed to.
        for number in range(30):
            body = {"label": f"key-{number}"}
            made = requests.post(f"{web.url}/api/api-keys", json=body, headers=headers, timeout=60)
            assert made.status_code == 201, made.text
            listed = requests.get(f"{web.url}/api/audit-events", headers=headers, timeout=60)
            assert f"key-{number}" in listed.text
        assert requests.get(f"{web.url}/readyz", timeout=60).status_code == 200
        forget_calls.defer(timestamp=0)
        done = ProcrastinateJob.objects.filter(task_name__endswith="forget_calls")
        wait_until(lambda: not done.exclude(status="succeeded").exists())
    assert AuditEvent.objects.filter(account=alice).count() == 30
