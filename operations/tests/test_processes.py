"""The list of processes, with real ones: they exit, or they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from core.tests.waiting import until
from core.tests.web import ROOT, database_url, web_process
from core.version import VERSION
from operations.models import Incident
from sandbox.mail.models import Mail
from telephony.db import in_database
from telephony.models import Process
from telephony.processes import Identity, process_beat
from telephony.tests.test_admin import CALLS, text_of

TOLD = {"OPERATOR_EMAILS": "ops@example.org"}
PROCESSES = reverse("admin:telephony_process_changelist")


@pytest.fixture
def olga(client: Client, operator: Account) -> Client:
    client.force_login(operator)
    return client


def worker_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "worker", "--lanes=mail,upkeep"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings_test",
            "DATABASE_URL": database_url(),
            **TOLD,
        },
        stderr=subprocess.DEVNULL,
    )


async def listed() -> dict[str, Process]:
    """The processes, by kind."""
    return {process.kind: process for process in await in_database(list, Process.objects.all())}


@pytest.mark.django_db(transaction=True)
async def test_a_process_that_exits_leaves_the_list_and_one_that_is_killed_stays() -> None:
    """Either of them tells operators meanwhile that there is no engine."""
    long_ago = timezone.now() - timedelta(minutes=2, seconds=10)
    no_engine = {"key": "no-engine", "began_at": long_ago, "seen_at": timezone.now()}
    await in_database(Incident.objects.create, **no_engine)

    async def are_up() -> bool:
        return (await listed()).keys() == {"web", "worker"}

    with web_process(workers=1, **TOLD) as web, worker_process() as worker:
        try:
            await until(are_up)
            up = await listed()
            await until(lambda: in_database(Mail.objects.exists))
        finally:
            worker.kill()
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(30)
    assert (await listed()).keys() == {"worker"}
    assert (up["worker"].pid, up["worker"].queues) == (worker.pid, "mail,upkeep")
    assert {process.version for process in up.values()} == {VERSION}
    [message] = await in_database(list, Mail.objects.all())
    told = ("ops@example.org", "Switchhook: No engine accepts calls")
    assert (message.to, message.subject) == told


@pytest.mark.django_db
class TestThePage:
    def test_it_says_what_runs_where(self, olga: Client) -> None:
        engine = Identity(Process.Kind.ENGINE, host="a.example", pid=7)
        process_beat(engine, is_draining=True, calls=3)
        process_beat(Identity(Process.Kind.WORKER, queues=("mail",), host="b.example"))
        text = text_of(olga, PROCESSES)
        for shown in ("a.example", "Draining for 0", ">3</a>", "b.example", "mail", VERSION):
            assert shown in text, shown
        assert f"{CALLS}?engine={engine.id}&amp;outcome=in-progress" in text
        assert "Several versions" not in text

    def test_it_says_since_when_a_process_is_silent(self, olga: Client) -> None:
        process_beat(Identity(Process.Kind.WORKER))
        Process.objects.update(last_seen_at=timezone.now() - timedelta(minutes=7, seconds=5))
        assert "Silent for 7" in text_of(olga, PROCESSES)

    def test_it_says_that_two_versions_are_running(self, olga: Client) -> None:
        for version in ("1.1.0", "1.1.0", "1.0.0"):
            process_beat(Identity(Process.Kind.WEB, version=version))
        shown = "Several versions are running: 1.0.0 (1 process) and 1.1.0 (2 processes)."
        assert shown in text_of(olga, PROCESSES)

    def test_every_page_says_which_version_served_it(self, olga: Client) -> None:
        assert f"Switchhook {VERSION}</p>" in text_of(olga, PROCESSES)
