"""What is counted, and that nobody can create series without end."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import uvloop
from django.db import connection
from django.utils import timezone
from prometheus_client import generate_latest

from billing.metering.delivery import NO_CUSTOMER
from billing.models import MeterEvent, MeterProblem, StatusCheck
from core.middleware import RequestAnswered
from core.observers import tell
from core.queue import lanes
from core.queue.jobs import defer
from core.queue.worker import JobEnded
from devtools.ports import free_ports
from operations.metrics import certificates, figures, measuring, meters
from operations.tests.doctor.stand_ins import Authority, Site, static
from operations.tests.test_start_page import call_of, used
from telephony import facts
from telephony.callbacks.attempts import Result
from telephony.engine.codes import EventKind
from telephony.models import Call, CallbackDelivery, CallbackEndpoint, Incident
from telephony.processes import Identity, process_beat

HOSTILE = 'x"} 1\nswitchhook_calls_in_progress 999\n# é' * 100


@pytest.fixture
def rise():
    """A function that returns by how much a series has risen since the test began."""
    end = measuring.subscribe()
    before = {}
    for metric in meters.REGISTRY.collect():
        for sample in metric.samples:
            before[sample.name, frozenset(sample.labels.items())] = sample.value

    def rise(name, **labels):
        now = meters.REGISTRY.get_sample_value(f"switchhook_{name}", labels)
        was = before.get((f"switchhook_{name}", frozenset(labels.items())), 0)
        return (now or 0) - was

    yield rise
    end()


def call(**fields):
    return Call(id="c1", direction="inbound", **fields)


def noted(kind, **detail):
    tell(facts.Noted(call(), timezone.now(), kind, detail))


class TestCalls:
    def test_a_call_from_its_start_to_its_end(self, rise):
        ended = call(ended_reason="caller_hangup")
        record = SimpleNamespace(minutes=3)
        tell(facts.CallStarted(ended))
        tell(facts.CallHeld(ended))
        assert rise("calls_in_progress") == 1
        tell(facts.CallReleased(ended))
        tell(facts.CallEnded(ended, "gpt-realtime-1.5", None, 0, record))
        assert rise("calls_in_progress") == 0
        assert rise("calls_started_total", direction="inbound") == 1
        labels = {"direction": "inbound", "reason": "caller_hangup", "outcome": "completed"}
        assert rise("calls_ended_total", **labels) == 1
        assert rise("billed_minutes_total") == 3

    def test_a_call_that_fails(self, rise):
        lost = call(ended_reason="engine_lost", error_code="engine_lost")
        tell(facts.CallEnded(lost, "", None, 0, None))
        tell(facts.CallResumed(lost))
        labels = {"direction": "inbound", "reason": "engine_lost", "outcome": "failed"}
        assert rise("calls_ended_total", **labels) == 1
        assert rise("call_problems_total", code="engine_lost") == 1
        assert rise("calls_resumed_total") == 1

    @pytest.mark.parametrize(
        ("status", "apologized", "outcome"),
        [
            (200, False, "ok"),
            (200, True, "apologized"),
            (403, False, "refused"),
            (503, False, "unavailable"),
            (500, False, "failed"),
        ],
    )
    def test_webhooks(self, rise, status, apologized, outcome):
        tell(facts.WebhookAnswered("inbound", "CA1", status, 1.2, apologized))
        assert rise("voice_webhooks_total", webhook="inbound", outcome=outcome) == 1
        assert rise("voice_webhook_seconds_sum", webhook="inbound") == pytest.approx(1.2)

    def test_what_backends_decide(self, rise):
        tell(facts.CallStartAsked(call(), "accepted", 200, 0.3))
        tell(facts.CallStartAsked(call(), "call_start_timeout", None, 10.0))
        assert rise("call_start_seconds_count", outcome="accepted") == 1
        assert rise("call_start_seconds_sum", outcome="call_start_timeout") == 10


class TestConversations:
    def test_latencies(self, rise):
        noted(EventKind.GREETED, ms=800)
        noted(EventKind.MODEL_READY, model="gpt-realtime-1.5", ms=300)
        noted(EventKind.AGENT_SPOKE, latencyMs=600)
        noted(EventKind.INTERRUPTED, heardMs=10)
        noted(EventKind.AGENT_HEARD, latencyMs=700)
        assert rise("first_audio_seconds_sum") == pytest.approx(0.8)
        assert rise("model_ready_seconds_sum") == pytest.approx(0.3)
        assert rise("turn_sent_seconds_sum") == pytest.approx(0.6)
        assert rise("turn_heard_seconds_sum") == pytest.approx(0.7)
        assert rise("interruptions_total") == 1

    @pytest.mark.parametrize("outcome", ["returned", "failed", "timeout"])
    def test_tools(self, rise, outcome):
        noted(EventKind(f"tool_{outcome}"), tool=HOSTILE, ms=1500)
        assert rise("tool_seconds_sum", outcome=outcome) == pytest.approx(1.5)

    @pytest.mark.parametrize(
        ("outcome", "status", "counted"),
        [
            ("connected", None, "connected"),
            ("refused", 401, "unauthorized"),
            ("refused", 429, "rate_limited"),
            ("refused", 500, "refused"),
            ("unreachable", None, "unreachable"),
        ],
    )
    def test_connections_to_the_model(self, rise, outcome, status, counted):
        tell(facts.ModelConnected(call(), outcome, status, 0.1))
        assert rise("model_connects_total", outcome=counted) == 1

    def test_the_models_errors(self, rise):
        noted(EventKind.MODEL_ERROR, code="insufficient_quota")
        noted(EventKind.RESPONSE_FAILED, code="server_error")
        tell(facts.ModelDisconnected(call(), 1006))
        assert rise("model_errors_total", code="insufficient_quota") == 1
        assert rise("model_responses_failed_total", code="server_error") == 1
        assert rise("model_disconnects_total", code="1006") == 1


class TestWork:
    @pytest.mark.parametrize(
        ("result", "outcome"),
        [
            (Result("204", delivered=True, duration_ms=250), "delivered"),
            (Result("500", duration_ms=250), "refused"),
            (Result("timeout", duration_ms=250), "timeout"),
            (Result("cannot be unsealed", was_sent=False, duration_ms=250), "sealed"),
            (Result(HOSTILE, duration_ms=250), "other"),
        ],
    )
    def test_callbacks(self, rise, result, outcome):
        tell(facts.CallbackSent("d1", "onCallEnd", result))
        assert rise("callback_attempts_total", kind="onCallEnd", outcome=outcome) == 1
        assert rise("callback_seconds_sum", kind="onCallEnd") == pytest.approx(0.25)

    def test_jobs(self, rise):
        tell(JobEnded("telephony.tasks.deliver_callback", "callbacks", "retried", 2.0))
        assert rise("jobs_total", queue="callbacks", outcome="retried") == 1
        assert rise("job_seconds_sum", queue="callbacks") == 2

    @pytest.mark.parametrize(
        ("path", "area"),
        [
            ("/api/calls", "api"),
            ("/voice", "voice"),
            ("/livez", "health"),
            ("/webhooks/stripe", "webhooks"),
            ("//api", "api"),
            ("/", "pages"),
            ("", "pages"),
            (f"/{HOSTILE}", "pages"),
        ],
    )
    def test_requests(self, rise, path, area):
        tell(RequestAnswered(path, 200, 0.1))
        assert rise("http_request_seconds_count", area=area, status="2xx") == 1

    def test_a_request_is_told_with_its_status(self, rise, client, db):
        client.get("/api/calls")
        assert rise("http_request_seconds_count", area="api", status="4xx") == 1


class TestSeries:
    def test_what_others_send_creates_no_series(self, rise):
        def told():
            noted(EventKind.MODEL_ERROR, code=HOSTILE)
            noted(EventKind.RESPONSE_FAILED, code=HOSTILE)
            noted(EventKind.MODEL_ERROR)
            tell(facts.ModelDisconnected(call(), 4711))
            tell(facts.ModelConnected(call(), "refused", 418, 0.1))
            ended = call(ended_reason="model_error", error_code=f"model_{HOSTILE}")
            tell(facts.CallEnded(ended, HOSTILE, None, 0, None))
            tell(facts.WebhookAnswered(HOSTILE, HOSTILE, 200, 0.1))
            tell(facts.CallStartAsked(call(), HOSTILE, 200, 0.1))
            tell(RequestAnswered(f"/{HOSTILE}", 999, 0.1))

        told()
        lines = len(generate_latest(meters.REGISTRY).splitlines())
        told()
        text = generate_latest(meters.REGISTRY).decode()
        assert len(text.splitlines()) == lines
        assert "calls_in_progress 999" not in text
        assert rise("model_errors_total", code="other") == 4
        assert rise("call_problems_total", code="other") == 2

    def test_no_label_can_name_a_customer(self):
        labels = set()
        for metric in meters.REGISTRY.collect():
            labels.update(*(sample.labels for sample in metric.samples))
        known = {"direction", "reason", "outcome", "code", "webhook", "queue", "kind", "state"}
        assert labels - {"le"} <= known | {"area", "status", "address"}

    def test_every_reason_for_an_end_has_a_series_from_the_start(self, rise):
        tell(facts.CallStarted(call()))
        reasons = {
            sample.labels["reason"]
            for metric in meters.CALLS_ENDED.collect()
            for sample in metric.samples
        }
        assert reasons >= {"engine_lost", "internal_error", "rejected"}

    @pytest.mark.parametrize(
        ("metric", "values"),
        [
            (meters.VOICE_WEBHOOK, [meters.WEBHOOKS]),
            (meters.CALLBACKS, [("onCallEnd", "onError")]),
            (meters.MODEL_RESPONSES_FAILED, [(*meters.MODEL_ERROR_CODES, "other")]),
            (meters.JOB_SECONDS, [lanes.PLACES]),
            (meters.REQUESTS, [("api", "admin", "voice", "pages"), ("2xx", "3xx", "4xx", "5xx")]),
        ],
    )
    def test_the_first_error_of_a_process_is_an_increase(self, rise, metric, values):
        (found,) = metric.collect()
        series = {tuple(map(sample.labels.get, metric._labelnames)) for sample in found.samples}
        assert series >= set(itertools.product(*values))


class TestTheEventLoop:
    @pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_what_keeps_it_busy_is_seen_and_makes_frames_late(self, rise, factory):
        async def block():
            measuring.measure_loop()
            await asyncio.sleep(3 * measuring.TICK_S)
            time.sleep(0.2)  # noqa: ASYNC251 (that is the point)
            await asyncio.sleep(2 * measuring.TICK_S)

        tell(facts.CallHeld(call()))
        tell(facts.CallHeld(Call(id="c2", direction="inbound")))
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(block())
        tell(facts.CallReleased(call()))
        tell(facts.CallReleased(Call(id="c2", direction="inbound")))
        count = rise("event_loop_lag_seconds_count")
        assert rise("event_loop_lag_seconds_bucket", le="0.1") <= count - 1
        assert rise("event_loop_lag_seconds_bucket", le="2.5") == count
        # A timer that is due every 50 ms is between 150 and 200 ms late: 7 frames, or more on a
        # busy machine, of each of two calls.
        assert rise("frames_late_total") >= 14
        assert rise("frames_late_total") % 2 == 0


class TestThePool:
    @pytest.mark.django_db
    def test_its_use(self):
        connection.ensure_connection()
        stats = measuring._look_at_pool()
        used = meters.REGISTRY.get_sample_value("switchhook_database_pool_used")
        assert used >= 1
        assert stats["pool_max"] == connection.pool.max_size


def test_when_certificates_expire(settings, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    (closed,) = free_ports(1)
    with (
        Site(static("200 OK"), authority.context(days=5)) as valid,
        Site(static("200 OK"), authority.context(days=-5)) as expired,
    ):
        settings.PUBLIC_URL, settings.ENGINE_URL = valid.url, expired.url
        settings.MEDIA_STREAM_URL = f"wss://localhost:{closed}/media"
        certificates.look()

    def expires(address):
        name = "switchhook_certificate_expires_timestamp_seconds"
        return meters.REGISTRY.get_sample_value(name, {"address": address})

    assert expires("public") - time.time() == pytest.approx(timedelta(days=5).total_seconds(), 0.01)
    assert expires("engine") == 0
    assert math.isnan(expires("media"))


@pytest.mark.django_db
class TestFigures:
    def read(self, name, **labels):
        figures.read()
        return meters.REGISTRY.get_sample_value(f"switchhook_{name}", labels)

    def test_nothing_waits(self):
        for name in ("callbacks_waiting", "callbacks_oldest_seconds", "callbacks_held"):
            assert self.read(name) == 0
        for name in ("meter_lag_seconds", "meter_drift_minutes", "status_checks_oldest_seconds"):
            assert self.read(name) == 0
        assert self.read("jobs_waiting", queue="money") == 0
        assert self.read("jobs_oldest_seconds", queue="money") == 0
        assert self.read("incidents_open", kind="calls") == 0
        assert time.time() - self.read("figures_read_timestamp_seconds") < 10

    def test_jobs(self):
        now = timezone.now()
        defer("telephony.tasks.deliver_callback", delivery_id="d1")
        defer("telephony.tasks.deliver_callback", at=now, delivery_id="d2")
        late = now - timedelta(minutes=5)
        defer("telephony.tasks.deliver_callback", at=late, delivery_id="d3")
        later = now + timedelta(minutes=5)
        defer("telephony.tasks.deliver_callback", at=later, delivery_id="d4")
        assert self.read("jobs_waiting", queue="callbacks") == 3
        assert self.read("jobs_oldest_seconds", queue="callbacks") == pytest.approx(300, abs=5)

    def test_callbacks(self, alice):
        call = call_of(alice)
        now = timezone.now()
        for minutes, fields in (
            (3, {}),
            (2, {}),
            (9, {"claimed_until": now + timedelta(minutes=1)}),
            (-1, {}),
            (9, {"held_by": CallbackEndpoint.objects.create(account=alice, origin="https://a")}),
            (9, {"state": "delivered"}),
        ):
            CallbackDelivery.objects.create(
                account=alice,
                call=call,
                kind="onError",
                url="https://a/error",
                due_at=now - timedelta(minutes=minutes),
                **fields,
            )
        assert self.read("callbacks_waiting") == 2
        assert self.read("callbacks_oldest_seconds") == pytest.approx(180, abs=5)
        assert self.read("callbacks_held") == 1

    def test_money(self, alice):
        for sid, age, error in (("CA1", 5, "Timeout"), ("CA2", 90, NO_CUSTOMER)):
            MeterEvent.objects.create(
                identifier=sid,
                usage_record=used(alice, sid, minutes=1),
                account=alice,
                minutes=1,
                happened_at=timezone.now() - timedelta(minutes=age),
                last_error=error,
            )
        for key, detail in (
            ("less", {"stripes": 10, "settled": 15, "just_sent": 2, "in_doubt": 0}),
            ("more", {"stripes": 10, "settled": 6, "just_sent": 0, "in_doubt": 1}),
        ):
            MeterProblem.objects.create(kind="difference", key=key, detail=detail)
        MeterProblem.objects.create(kind="error-report", key="report")
        MeterProblem.objects.create(kind="refused", key="old", resolved_at=timezone.now())
        StatusCheck.objects.create(
            account=alice, marks=2, settled=1, marked_at=timezone.now() - timedelta(minutes=5)
        )
        assert self.read("meter_lag_seconds") == pytest.approx(300, abs=5)
        assert self.read("meter_drift_minutes") == 11
        assert self.read("meter_problems", kind="difference") == 2
        assert self.read("meter_problems", kind="error-report") == 1
        assert self.read("meter_problems", kind="refused") == 0
        assert self.read("status_checks_oldest_seconds") == pytest.approx(300, abs=5)

    def test_incidents(self, alice):
        now = timezone.now()
        for subject, ended_at in (("one", None), ("two", None), ("three", now)):
            Incident.objects.create(
                account=alice,
                kind="calls",
                subject=subject,
                began_at=now,
                last_at=now,
                ended_at=ended_at,
            )
        assert self.read("incidents_open", kind="calls") == 2
        assert self.read("incidents_open", kind="endpoint") == 0
        assert self.read("accounts_failing") == 1
        Incident.objects.update(last_at=now - timedelta(minutes=16))
        assert self.read("accounts_failing") == 0

    def test_processes(self):
        process_beat(Identity("worker"))
        process_beat(Identity("engine"), is_draining=True)
        assert self.read("processes", kind="worker", state="up") == 1
        assert self.read("processes", kind="engine", state="draining") == 1
        assert self.read("processes", kind="engine", state="silent") == 0

    def test_each_is_one_statement_with_a_limit(self, django_assert_num_queries):
        with django_assert_num_queries(9) as made:
            figures.read()
        (processes,) = [query["sql"] for query in made if "LIMIT" not in query["sql"]]
        assert "telephony_engine" in processes  # a table of few rows
