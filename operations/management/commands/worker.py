"""``manage.py worker``: do the jobs of the queue."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from argparse import ArgumentParser
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError
from procrastinate.contrib.django import app

from core.logs import name_process
from core.queue.lanes import PLACES
from core.queue.worker import Worker
from operations.metrics.exporting import export, is_exported
from operations.tracing import trace
from operations.watching import Watcher
from telephony.heartbeat import Heartbeat
from telephony.models import Process
from telephony.processes import Identity

# Longer than nearly all jobs take: they wait for others for 30 seconds at most.
_GRACE_S = 60.0


class Command(BaseCommand):
    help = "Run the queue's jobs: callbacks, billing, email, cleanup."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--lanes",
            default=",".join(PLACES),
            help="the queues to work on, separated by commas (default: all)",
        )
        parser.add_argument(
            "--grace",
            type=float,
            default=_GRACE_S,
            help=f"seconds that jobs may take to finish after SIGTERM ({_GRACE_S:g}); "
            "a second signal ends them at once",
        )

    def handle(self, *args: Any, lanes: str, grace: float, **options: Any) -> None:
        names = lanes.split(",")
        if unknown := set(names) - set(PLACES):
            raise CommandError(
                f"There is no queue {min(unknown)!r}. The queues are {', '.join(PLACES)}."
            )
        name_process("worker")
        export("worker")
        if uvloop.run(_work({name: PLACES[name] for name in names}, grace)):
            # A job that outlasts its grace period continues in a thread, which Python would wait
            # for. The job is queued again, for other workers.
            logging.shutdown()
            os._exit(0)


async def _work(places: dict[str, int], grace: float) -> bool:
    """Run a worker until a signal ends it; return True if threads are left that do not end."""
    worker = Worker(app, places, grace=grace)
    heartbeat = Heartbeat(Identity(Process.Kind.WORKER, queues=tuple(places)))
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def stop() -> None:
        worker.stop()
        tasks.add(loop.create_task(heartbeat.drain()))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    heartbeat.start()
    if is_exported():
        from operations.metrics import certificates, figures, measuring

        measuring.measure()
        measuring.measure_loop()
        certificates.watch()
        tasks.add(loop.create_task(figures.read_on()))
    trace()
    watcher = Watcher("processes", "rest")
    await worker.run()
    watcher.stop()
    # Not after an error: a worker that fails stays in the list of processes, as silent.
    await heartbeat.stop()
    return worker.leaves_threads
