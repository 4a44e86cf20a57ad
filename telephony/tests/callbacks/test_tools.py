from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from telephony.callbacks import attempts, tools
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.tools import ToolFailed
from telephony.tests.callbacks.conftest import SECRET, Backend


async def run(url: str, facts: CallFacts) -> Any:
    return await tools.run_tool(
        url, facts, name="find_order", arguments={"number": 7}, secrets=[SECRET]
    )


async def failure(url: str, facts: CallFacts) -> ToolFailed:
    with pytest.raises(ToolFailed) as raised:
        await run(url, facts)
    return raised.value


async def test_run_tool_returns_the_result(backend: Backend, facts: CallFacts) -> None:
    backend.answers(200, {"result": {"status": "shipped"}})
    assert await run(f"{backend.url}/tools", facts) == '{"status":"shipped"}'
    (received,) = backend.received
    assert received.path == "/tools"
    body = Webhook(SECRET).verify(received.body, dict(received.headers))
    assert (body["toolName"], body["arguments"]) == ("find_order", {"number": 7})


async def test_each_call_has_its_own_webhook_id(backend: Backend, facts: CallFacts) -> None:
    backend.answers(200, {"result": 1})
    await asyncio.gather(*(run(backend.url, facts) for _ in range(3)))
    ids = {received.headers["webhook-id"] for received in backend.received}
    assert len(ids) == 3
    assert all(one.startswith("msg_") for one in ids)


@pytest.mark.parametrize("result", [None, False, 0, [], {}, {"city": "Zürich"}])
async def test_a_result_may_be_any_json(backend: Backend, facts: CallFacts, result: Any) -> None:
    backend.answers(200, {"result": result})
    assert json.loads(await run(backend.url, facts)) == result


@pytest.mark.parametrize("text", ["", "text", "Zürich"])
async def test_a_text_is_returned_unchanged(backend: Backend, facts: CallFacts, text: str) -> None:
    backend.answers(200, {"result": text})
    assert await run(backend.url, facts) == text


async def test_the_largest_result_is_accepted(
    backend: Backend, facts: CallFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parsed, and encoded for the model, outside the event loop."""
    threads: list[threading.Thread] = []
    dumps = orjson.dumps

    def noting(value: Any) -> bytes:
        threads.append(threading.current_thread())
        return dumps(value)

    numbers = [1] * 20_000
    backend.answers(200, {"result": numbers})
    monkeypatch.setattr(orjson, "dumps", noting)
    assert json.loads(await run(backend.url, facts)) == numbers
    [thread] = threads
    assert thread is not threading.current_thread()


async def test_a_slow_tool_times_out(
    backend: Backend, facts: CallFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    assert tools.TIMEOUT_SECONDS == 30
    monkeypatch.setattr(tools, "TIMEOUT_SECONDS", 1)
    backend.answer = answer
    failed = await failure(backend.url, facts)
    assert failed.code == "tool_timeout"
    assert failed.message == "The tool find_order did not respond in time."
    assert len(backend.received) == 1


async def test_an_unreachable_backend_fails_the_tool(facts: CallFacts) -> None:
    failed = await failure("http://127.0.0.1:1/", facts)
    assert failed.code == "tool_unreachable"
    assert failed.message == "The tool find_order could not be reached."


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_status_other_than_2xx_fails_the_tool(
    backend: Backend, facts: CallFacts, status: int
) -> None:
    backend.answers(status, {"result": 1})
    failed = await failure(backend.url, facts)
    assert failed.code == "tool_bad_status"
    assert failed.message == f"The tool find_order failed with HTTP status {status}."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The tool find_order responded with something that is not JSON."),
        (b"<html>", "The tool find_order responded with something that is not JSON."),
        (b"{}", "The tool find_order responded without a result."),
        (b"[1]", "The tool find_order responded without a result."),
        (b'"result"', "The tool find_order responded without a result."),
        (
            b" " * (2**16 + 1),
            "The tool find_order failed: the response has more than 64 KB.",
        ),
        (
            b'{"result": ' + b"[" * 33 + b"]" * 33 + b"}",
            "The tool find_order responded with a result that is nested more than 32 deep.",
        ),
        (
            b'{"result": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
            "The tool find_order responded with something that is nested more than 32 deep.",
        ),
    ],
)
async def test_an_unusable_response_fails_the_tool(
    backend: Backend, facts: CallFacts, body: bytes, message: str
) -> None:
    backend.answers_bytes(body)
    failed = await failure(backend.url, facts)
    assert (failed.code, failed.message) == ("tool_bad_answer", message)


async def test_a_failure_has_the_response_without_the_credentials(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(
        500, {"error": "Down", "sent": ["open sesame", SECRET], "openaiApiKey": "k" * 9}
    )
    with pytest.raises(ToolFailed) as raised:
        await tools.run_tool(
            backend.url,
            facts,
            name="find_order",
            arguments={},
            secrets=[SECRET],
            known=["open sesame"],
        )
    result = raised.value.result
    assert result.text == "500"
    assert json.loads(result.answer) == {
        "error": "Down",
        "sent": ["••••••••"] * 2,
        "openaiApiKey": "•••••••• (9 characters)",
    }


async def test_a_failure_without_a_response_says_why(facts: CallFacts) -> None:
    result = (await failure("http://127.0.0.1:1/", facts)).result
    assert (result.text, result.answer) == ("unreachable", "")


async def test_a_response_that_repeats_the_arguments_is_not_kept(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(500, {"error": "There is no order 7."})
    assert (await failure(backend.url, facts)).result.answer == attempts.ECHO
