"""Traces, as a collector receives them over OTLP."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest

from config.tests.test_settings import DEVELOPMENT, ROOT
from operations.tests.collector import Collector, Received, collecting
from operations.tracing.exporting import LAST_S, MOST_WAITING, Exporter
from operations.tracing.spans import Span
from operations.tracing.tracing import Tracer
from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER
from telephony.tests.wire.conftest import *  # noqa: F403  # a world with a phone and a model
from telephony.tests.wire.conftest import OPENAI_KEY
from telephony.tests.wire.test_inbound import CALLER
from telephony.trace_ids import trace_of, traceparent

CALL = "cmnp2a0c100037h3zv5j9e8ub"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def exported(collector: Collector) -> Iterator[Callable[[], None]]:
    """Trace this process; a function that exports what there is, and ends this."""
    exporter = Exporter(collector.url)
    end = Tracer(exporter.add).subscribe()
    yield exporter.stop
    end()
    exporter.stop()


def tree(spans: list[Received], parent: str = "") -> list[Any]:
    """Return names and children, in the order of time."""
    children = sorted(
        (span for span in spans if span.parent == parent), key=lambda span: span.start
    )
    return [(span.name, tree(spans, span.id)) for span in children]


async def test_a_call_is_one_trace(world, model, collector, exported) -> None:
    secret = "canary-in-the-metadata"
    world.backend.plan |= {"metadata": {"said": secret}, "systemPrompt": f"Say {secret}."}
    script = Script(turns=[CallTool("book_table", {"name": secret}), Say("Table seven.")])
    async with model(script):
        ringing = await world.greeted(from_=CALLER)
        await ringing.person.say("A table for two please")
        await ringing.person.hears("Table seven.")
        call = await world.hang_up(ringing)
    await world.told("end")
    exported()

    chat = ("chat gpt-realtime-1.5", [])
    turns = [("turn", [chat]), ("turn", [chat, ("execute_tool book_table", []), chat])]
    names = tree(collector.spans)
    (top,) = names
    assert top[0] == "call"
    assert [each for each in top[1] if each[0] != "POST /voice/after"] == [
        ("POST /voice", [("onCallStart", [])]),
        ("invoke_agent", [("connect", []), *turns]),
        ("onCallEnd", []),
    ]
    assert {span.trace for span in collector.spans} == {trace_of(call.id)}
    assert not any(span.is_error for span in collector.spans)
    assert all(0 < span.start <= span.end for span in collector.spans)
    assert collector.resource["service.name"] == "switchhook"

    (root,) = collector.named("call")
    assert root.attributes["switchhook.call.sid"] == call.call_sid
    assert root.attributes["switchhook.call.ended_reason"] == "caller_hangup"
    assert root.attributes["switchhook.call.billed_minutes"] == 1
    responses = collector.named(chat[0])
    tokens = [each.attributes["gen_ai.usage.output_tokens"] for each in responses]
    assert sum(tokens) == root.attributes["gen_ai.usage.output_tokens"]
    assert min(tokens) > 0
    assert responses[0].attributes["gen_ai.operation.name"] == "chat"
    assert responses[0].attributes["gen_ai.request.model"] == "gpt-realtime-1.5"
    (tool,) = collector.named("execute_tool book_table")
    assert tool.attributes["gen_ai.tool.name"] == "book_table"
    turn = collector.named("turn")[-1]
    assert turn.attributes["switchhook.turn.latency_ms"] >= 0

    names = {"/start": "onCallStart", "/tool": "execute_tool book_table", "/end": "onCallEnd"}
    for path, callback in world.backend.received:
        (span,) = collector.named(names[path])
        assert callback.headers["traceparent"] == traceparent(call.id, span.id)

    for canary in (
        *(secret, CALLER, NUMBER, "A table for two", "Table seven", "Hello."),
        *(ACCOUNT_SID, AUTH_TOKEN, OPENAI_KEY, world.backend.url, "whsec_", "ticket"),
    ):
        assert canary.encode() not in collector.raw, canary


async def test_a_rejected_call_is_a_trace_too(world, collector, exported) -> None:
    world.backend.status = 500
    call = await world.over(world.ring())
    world.backend.status = 200
    await world.told("error")
    exported()
    assert tree(collector.spans) == [
        ("call", [("POST /voice", [("onCallStart", [])]), ("onError", [])])
    ]
    errors = {span.name: span.attributes.get("error.type") for span in collector.spans}
    assert errors == {
        "call": "call_start_bad_status",
        "POST /voice": None,
        "onCallStart": "call_start_bad_status",
        "onError": None,
    }
    assert collector.spans[0].trace == trace_of(call.id)


async def test_a_traceparent_from_outside_is_ignored(world, collector, exported) -> None:
    theirs = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    fields = {"CallSid": "CA" + "0" * 32, "AccountSid": ACCOUNT_SID, "To": NUMBER}
    headers = {"X-Twilio-Signature": "forged", "traceparent": theirs, "tracestate": "a=b"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = world.phone.voice_url
        async with session.post(url, data=fields) as response:
            assert response.status == 403
    exported()
    (start,) = world.backend.to("start")
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", start.headers["traceparent"])
    assert "tracestate" not in start.headers
    assert collector.spans
    for text in (start.headers["traceparent"], *(span.trace for span in collector.spans)):
        assert "a" * 32 not in text
    assert "b" * 16 not in {span.parent for span in collector.spans}


def span(number: int) -> Span:
    return Span("call", trace_of(CALL), f"{number + 1:016x}", "", 1, 2)


def test_a_collector_that_hangs_costs_nothing(collector: Collector) -> None:
    collector.may_answer.clear()
    exporter = Exporter(collector.url)
    began = time.monotonic()
    for number in range(3 * MOST_WAITING):
        exporter.add(span(number))
    assert collector.has_request.wait(10)
    exporter.stop()
    assert time.monotonic() - began < LAST_S + 5  # the collector would answer after 30 s


@pytest.mark.parametrize(("status", "body"), [(400, b"\xff" * 1000), (404, b"<html>")])
def test_a_collector_that_refuses_leaves_one_line(
    collector: Collector, log_lines: Callable[..., list[dict[str, Any]]], status: int, body: bytes
) -> None:
    collector.status, collector.body = status, body
    exporter = Exporter(collector.url)
    for number in range(500):
        exporter.add(span(number))
    exporter.stop()
    assert [line["event"] for line in log_lines()] == ["traces_not_exported"]


def test_garbage_from_the_collector_does_no_harm(
    collector: Collector, log_lines: Callable[..., list[dict[str, Any]]]
) -> None:
    collector.body = b"\xff" * 100_000
    exporter = Exporter(collector.url)
    exporter.add(span(1))
    exporter.stop()
    assert [received.id for received in collector.spans] == ["0000000000000002"]
    assert log_lines() == []


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    code = (
        "import django, sys; django.setup()\n"
        "from operations.tracing import trace; trace()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'sentry'))])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**DEVELOPMENT, "DJANGO_SETTINGS_MODULE": "config.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "[]\n"
