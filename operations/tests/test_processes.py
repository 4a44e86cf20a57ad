"""The list of processes, with real ones: they exit, or they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from core.tests.waiting import until
from core.tests.web import ROOT, database_url, web_process
from core.version import VERSION
from telephony.db import in_database
from telephony.models import Process

pytestmark = pytest.mark.django_db(transaction=True)


def worker_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "worker", "--lanes=mail,upkeep"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings_test",
            "DATABASE_URL": database_url(),
        },
        stderr=subprocess.DEVNULL,
    )


async def listed() -> dict[str, Process]:
    """The processes, by kind."""
    return {process.kind: process for process in await in_database(list, Process.objects.all())}


async def test_a_process_that_exits_leaves_the_list_and_one_that_is_killed_stays() -> None:
    async def are_up() -> bool:
        return (await listed()).keys() == {"web", "worker"}

    with web_process(workers=1) as web, worker_process() as worker:
        try:
            await until(are_up)
            up = await listed()
        finally:
            worker.kill()
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(30)
    assert (await listed()).keys() == {"worker"}
    assert (up["worker"].pid, up["worker"].queues) == (worker.pid, "mail,upkeep")
    assert {process.version for process in up.values()} == {VERSION}
