"""A real Prometheus watches real processes: what fails raises its alert, and the alert ends.

The rules are those of ``deploy/monitoring``, with two seconds for each of their minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.utils import timezone

from core.queue.jobs import Queued, defer_many
from core.tests.long import only_in_all
from core.tests.waiting import until
from core.tests.web import ROOT, database_url
from devtools.ports import free_ports
from sandbox.model import Say, Script, serve_model
from sandbox.phone.exchange import Phone
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER
from telephony.db import in_database
from telephony.models import PhoneNumber
from telephony.tests.wire.backend import serve_backend
from telephony.tests.wire.conftest import OPENAI_KEY

pytestmark = [
    only_in_all("three minutes"),
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]

MONITORING = settings.BASE_DIR / "deploy" / "monitoring"
_MINUTE_S = 2
_UNITS = {"m": 60, "h": 3600}
_PILE = 6_000


def quickened(rules: str) -> str:
    """Return the rules with a thirtieth of each duration in minutes and hours."""

    def shorter(found: re.Match[str]) -> str:
        return f"{int(found[1]) * _UNITS[found[2]] * _MINUTE_S // 60}s"

    return re.sub(r"\b(\d+)([mh])\b", shorter, rules)


class Watched:
    """Prometheus, and the processes that it watches."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self.engine_url = environment["ENGINE_URL"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = dict(zip(("engine", "worker", "callbacks"), free_ports(3), strict=True))
        (self.port,) = free_ports(1)

    def start(self, name: str, *command: str, **environment: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**self._environment, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill a process with all that it started, as the loss of its machine does."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    async def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)

    def worker(self, name: str, lanes: str) -> None:
        port = str(self.ports[name])
        command = (sys.executable, "manage.py", "worker", "--grace=1", f"--lanes={lanes}")
        self.start(name, *command, METRICS_PORT=port)

    def engine(self) -> None:
        command = (sys.executable, "-m", "gunicorn", "--config=config/gunicorn.conf.py")
        self.start("engine", *command, METRICS_PORT=str(self.ports["engine"]), PROCESS="engine")

    def prometheus(self) -> None:
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config.pop("alerting")
        job, _ = config["scrape_configs"]
        targets = [f"127.0.0.1:{port}" for port in self.ports.values()]
        config["scrape_configs"] = [job | {"static_configs": [{"targets": targets}]}]
        (self._folder / "rules").mkdir()
        rules = (MONITORING / "rules" / "switchhook.yml").read_text()
        (self._folder / "rules" / "switchhook.yml").write_text(quickened(rules))
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.start(
            "prometheus",
            "prometheus",
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=expand-external-labels",
        )

    def alerts(self) -> dict[str, dict[str, str]]:
        """Return the annotations of the alerts that fire, by name."""
        url = f"http://127.0.0.1:{self.port}/api/v1/alerts"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                alerts = json.load(response)["data"]["alerts"]
        except OSError:  # it is starting
            return {}
        return {
            alert["labels"]["alertname"].removeprefix("Switchhook"): alert["annotations"]
            for alert in alerts
            if alert["state"] == "firing"
        }

    async def until_raised(self, *names: str) -> None:
        began = time.monotonic()
        await until(lambda: set(names) <= self.alerts().keys(), within=120)
        print(f"{' '.join(names)} raised after {time.monotonic() - began:.0f} s")  # noqa: T201

    async def until_over(self, *names: str) -> None:
        began = time.monotonic()
        await until(lambda: not set(names) & self.alerts().keys(), within=150)
        print(f"{' '.join(names)} over after {time.monotonic() - began:.0f} s")  # noqa: T201


@contextmanager
def watched(folder: Path, model_url: str) -> Iterator[Watched]:
    port, media_port = free_ports(2)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings_test",
        "DATABASE_URL": database_url(),
        "PORT": str(port),
        "MEDIA_PORT": str(media_port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "ENGINE_URL": f"http://127.0.0.1:{port}",
        "MEDIA_URL": f"ws://127.0.0.1:{media_port}/media",
        "OPENAI_REALTIME_URL": model_url,
    }
    all = Watched(folder, environment)
    try:
        yield all
    finally:
        for name in list(all.processes):
            all.kill(name)


LANES = "calls,money,mail,upkeep"


async def test_what_fails_raises_its_alert_and_each_alert_ends(transactional_db, alice, tmp_path):
    async with (
        serve_model(Script(turns=[Say("Yes.")] * 9), key=OPENAI_KEY) as model,
        serve_backend(ACCOUNT_SID, AUTH_TOKEN, OPENAI_KEY) as backend,
    ):
        await in_database(
            PhoneNumber.objects.create,
            account=alice,
            phone_number=NUMBER,
            on_call_start_url=f"{backend.url}/start",
            on_call_end_url=f"{backend.url}/end",
        )
        with watched(tmp_path, model.url) as all:
            all.prometheus()
            await all.until_raised("Watchdog", "NoEngine", "NoWorker")
            assert all.alerts()["NoEngine"]["runbook_url"] == (
                f"{all.engine_url}/docs/monitoring#switchhooknoengine"
            )
            all.engine()
            all.worker("worker", LANES)
            all.worker("callbacks", "callbacks")
            await until(lambda: all.alerts().keys() == {"Watchdog"}, within=120)
            async with Phone(
                voice_url=f"{all.engine_url}/voice",
                account_sid=ACCOUNT_SID,
                auth_token=AUTH_TOKEN,
                speed=10.0,
            ) as phone:
                await _a_backend_fails(all, phone, backend)
                await _a_queue_fills_up(all)
                await _the_workers_stop(all)
                await _an_engine_is_killed(all, phone)


async def _a_backend_fails(all, phone, backend):
    ringing = phone.ring(to=NUMBER)
    await ringing.person.hears("Hello.")
    ringing.person.hang_up()
    await ringing.journal.wait_for("ended", within=20)
    backend.status = 500
    for _ in range(3):
        rings = [phone.ring(to=NUMBER) for _ in range(15)]
        for each in rings:
            await each.journal.wait_for("ended", within=20)
    await all.until_raised("CallsFail")
    backend.status = 200
    await all.until_over("CallsFail", "CallStartFails")


async def _a_queue_fills_up(all):
    await all.stop("callbacks")
    an_hour_ago = timezone.now() - timedelta(hours=1)
    jobs = [Queued({"delivery_id": f"none-{number}"}, at=an_hour_ago) for number in range(_PILE)]
    await in_database(defer_many, "telephony.tasks.deliver_callback", jobs)
    await all.until_raised("JobsWait", "JobsPileUp", "ProcessDown")
    all.worker("callbacks", "callbacks")
    await all.until_over("JobsWait", "JobsPileUp", "ProcessDown")


async def _the_workers_stop(all):
    await all.stop("callbacks")
    await all.stop("worker")
    await all.until_raised("NoWorker")
    all.worker("worker", LANES)
    all.worker("callbacks", "callbacks")
    await all.until_over("NoWorker", "ProcessDown")


async def _an_engine_is_killed(all, phone):
    ringing = phone.ring(to=NUMBER)
    await ringing.person.hears("Hello.")
    all.kill("engine")
    await all.until_raised("NoEngine", "EngineLost", "ProcessSilent")
    all.engine()
    await all.until_over("NoEngine", "EngineLost", "ProcessSilent", "ProcessDown")
