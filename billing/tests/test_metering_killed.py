"""Metering by a worker that dies: before, between and after every step, and for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from billing.metering.tasks import meter_usage
from billing.models import MeterEvent, MeterProblem
from billing.tests.metered import become_customer, call, set_up_meter, subscription
from billing.tests.watched import Killed, Request, WatchedStripe, nothing
from core.tests.poisons import IS_SHORT
from core.tests.web import database_url
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


class Steps:
    """Counts what crosses the process's border, queries and requests, and dies at one of them.

    A query that was carried out may be rolled back with its transaction; a request may not.
    """

    def __init__(self, meter: WatchedStripe, dies_at: int, *, when_done: bool) -> None:
        self.meter = meter
        self.dies_at = dies_at
        self.when_done = when_done
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.meter.before, self.meter.after = self._before, self._after
        with connection.execute_wrapper(self._query):
            yield
        self.meter.before = self.meter.after = nothing

    def _query(self, execute: Callable[..., Any], *query: Any) -> Any:
        if self.meter.is_asked:
            return execute(*query)
        self._before()
        result = execute(*query)
        self._after()
        return result

    def _before(self, request: Request | None = None) -> None:
        self.count += 1
        if self.count == self.dies_at and not self.when_done:
            raise Killed

    def _after(self, request: Request | None = None) -> None:
        if self.count == self.dies_at and self.when_done:
            raise Killed


def work(meter: WatchedStripe, dies_at: int = 0, *, when_done: bool = False) -> bool:
    """Run the job of every minute; return whether it died."""
    steps = Steps(meter, dies_at, when_done=when_done)
    with steps.counted(), suppress(Killed):
        meter_usage(timestamp=0)
        return False
    return True


def lease_ends(after: timedelta = timedelta(0)) -> None:
    now = timezone.now()
    MeterEvent.objects.unsent().update(
        next_attempt_at=now, first_attempt_at=F("first_attempt_at") - after
    )
    MeterEvent.objects.update(sent_at=F("sent_at") - after)


def assert_all_are_counted_once(meter: WatchedStripe) -> None:
    """Usage records, meter events and Stripe's meter say the same, call by call."""
    used = dict(UsageRecord.objects.filter(minutes__gt=0).values_list("call_sid", "minutes"))
    sent = MeterEvent.objects.filter(state=MeterEvent.State.SENT)
    assert dict(sent.values_list("identifier", "minutes")) == used
    assert {id: each.minutes for id, each in meter.events.items()} == used
    assert not MeterEvent.objects.unsent().exists()
    assert not MeterProblem.objects.exists()


@pytest.fixture
def calls(alice: Account, bob: Account) -> None:
    set_up_meter()
    become_customer(alice, subscription())
    become_customer(bob, subscription(id="sub_2"), id="cus_2")
    ended_at = timezone.now() - 10 * MINUTE
    for number, (account, minutes) in enumerate([(alice, 3), (bob, 5), (alice, 0), (alice, 2)]):
        call(account, minutes, ended_at=ended_at + number * MINUTE)


@pytest.mark.parametrize("when_done", [False, True])
@pytest.mark.usefixtures("calls")
def test_it_may_die_at_every_step(stripes_meter: WatchedStripe, when_done: bool) -> None:
    deaths = 0
    died = True
    while died:
        stripes_meter.forget_events()
        with transaction.atomic():
            died = work(stripes_meter, deaths + 1, when_done=when_done)
            lease_ends()
            assert not work(stripes_meter)
            assert_all_are_counted_once(stripes_meter)
            transaction.set_rollback(True)
        deaths += died
    assert deaths > 20


@pytest.mark.usefixtures("calls")
@settings(
    max_examples=10 if IS_SHORT else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    deaths=st.lists(
        st.tuples(st.integers(1, 25), st.booleans(), st.sampled_from([0, 1, 2])), max_size=6
    )
)
def test_it_may_die_again_and_again_and_lie_for_days(
    stripes_meter: WatchedStripe, deaths: list[tuple[int, bool, int]]
) -> None:
    stripes_meter.forget_events()
    with transaction.atomic():
        for dies_at, when_done, days in deaths:
            work(stripes_meter, dies_at, when_done=when_done)
            lease_ends(after=days * DAY)
            if days:
                stripes_meter.a_day_passes()
        assert not work(stripes_meter)
        assert_all_are_counted_once(stripes_meter)
        transaction.set_rollback(True)


WORKER = """
import sys
import django
django.setup()
import stripe
from billing import stripe_api
from billing.metering.tasks import meter_usage
stripe_api.configure()
stripe.api_base = sys.argv[1]
meter_usage(timestamp=0)
"""


class Server(ThreadingHTTPServer):
    """Stripe behind a real socket; of one request the answer never comes."""

    daemon_threads = True

    def __init__(self, meter: WatchedStripe, *, silent_at: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.meter = meter
        self.silent_at = silent_at
        self.is_silent = Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        try:
            text, status, _ = self.server.meter.request("post", self.path, self.headers, body)
        finally:
            connection.close()
        if len(self.server.meter.requests) == self.server.silent_at:
            self.server.is_silent.set()
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("calls")
def test_a_worker_is_killed_after_stripe_has_counted(stripes_meter: WatchedStripe) -> None:
    """kill -9 while it waits for the answer to its second event."""
    with Server(stripes_meter, silent_at=2) as server:
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, f"http://127.0.0.1:{server.server_port}"],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings_test",
                "DATABASE_URL": database_url(),
            },
        )
        try:
            assert server.is_silent.wait(30)
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait(10)
            server.shutdown()
    assert len(stripes_meter.events) == 2
    assert MeterEvent.objects.unsent().count() == 2
    assert not work(stripes_meter)
    assert MeterEvent.objects.unsent().count() == 2, "It is claimed still."
    lease_ends()
    assert not work(stripes_meter)
    assert_all_are_counted_once(stripes_meter)
