"""The customer's backend: its responses, its page, and that the page shows no credentials."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sandbox.backend import Backend
from sandbox.backend.journal import SIZE, Entry
from sandbox.backend.page import render
from sandbox.backend.restaurant import TOOLS, run_tool
from sandbox.backend.signatures import Signatures
from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN, SANDBOX_OPENAI_KEY
from sandbox.model.script import Say, script_in
from sandbox.server import create_app
from sandbox.tests.test_backend_signatures import OTHER, SECRET, signed
from telephony.callbacks.answers import parse_plan
from telephony.callbacks.problems import PlanError
from telephony.engine.plan import CallPlan, Refusal, Transfer

Client = TestClient[web.Request, web.Application]

CALL = {
    "callSid": "CA1",
    "callerPhone": "+12025550101",
    "callerNumber": "+12025550101",
    "calledNumber": "+12025550102",
    "direction": "inbound",
    "timestamp": "2026-04-01T09:30:00.000Z",
}
START = "/backend/calls/start"


@asynccontextmanager
async def serving(*secrets: str) -> AsyncIterator[Client]:
    app = web.Application()
    Backend(secrets).add_routes(app)
    async with TestClient(TestServer(app)) as client:
        yield client


async def post(client: Client, path: str, body: Any = CALL, **kwargs: Any) -> tuple[int, Any]:
    async with client.post(path, json=body, **kwargs) as response:
        return response.status, await response.json()


async def journal(client: Client, query: str = "") -> list[dict[str, Any]]:
    async with client.get(f"/backend/callbacks{query}") as response:
        assert response.status == 200
        callbacks: list[dict[str, Any]] = (await response.json())["callbacks"]
        return callbacks


async def test_it_works() -> None:
    async with serving() as client:
        status, answer = await post(client, START)
        plan = parse_plan(answer)

        assert status == 200
        assert isinstance(plan, CallPlan)
        assert plan.openai_api_key == SANDBOX_OPENAI_KEY
        assert plan.twilio_auth_token == SANDBOX_AUTH_TOKEN
        assert plan.on_tool_call_url == str(client.make_url("/backend/tools"))
        assert [tool.name for tool in plan.tools] == ["look_up_order", "book_table"]
        assert plan.builtin_tools == ("end_call", "transfer_call", "send_dtmf")
        assert plan.greeting


async def test_fields_that_the_query_sets() -> None:
    async with serving() as client:
        fields = json.dumps({"voice": "cedar", "openaiApiKey": "sk-wrong"})
        _, answer = await post(client, START, params={"set": fields})
        assert (answer["voice"], answer["openaiApiKey"]) == ("cedar", "sk-wrong")
        for wrong in ("{", "[]"):
            status, answer = await post(client, START, params={"set": wrong})
            assert (status, list(answer)) == (400, ["error"])


async def test_a_body_as_it_stands() -> None:
    async with (
        serving() as client,
        client.post(START, json=CALL, params={"raw": "<h1>Oops"}) as response,
    ):
        assert (response.status, await response.text()) == (200, "<h1>Oops")
        assert (await journal(client))[-1]["answer"] == "<h1>Oops"


async def test_tools_that_fail() -> None:
    async with serving() as client:
        _, answer = await post(client, START, params={"tool-error": "503"})
        tool = {"toolName": "look_up_order", "arguments": {}}
        path = answer["onToolCallUrl"].removeprefix(str(client.make_url("/")).rstrip("/"))
        assert (await post(client, path, tool))[0] == 503


async def test_the_sandbox_has_a_backend_and_a_model() -> None:
    app = create_app(voice_url="http://127.0.0.1:1/voice")
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/backend/")).status == 200
        headers = {"Authorization": f"Bearer {SANDBOX_OPENAI_KEY}"}
        url = "/openai/v1/realtime?model=gpt-realtime-1.5"
        async with client.ws_connect(url, headers=headers) as socket:
            assert (await socket.receive_json())["type"] == "session.created"


async def test_metadata_comes_back() -> None:
    async with serving() as client:
        _, answer = await post(client, START, {**CALL, "metadata": {"customerId": "cust_123"}})

        assert answer["metadata"] == {"customerId": "cust_123"}


# Behaviour that the URL asks for

SIGNED_WITH = {"twilio_account_sid": SANDBOX_ACCOUNT_SID, "twilio_auth_token": SANDBOX_AUTH_TOKEN}


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        ("reject=busy", Refusal("busy")),
        (
            "reject=rejected&message=We+are+closed",
            Refusal("rejected", "We are closed", **SIGNED_WITH),
        ),
        ("transfer=%2B12025550143", Transfer("+12025550143", **SIGNED_WITH)),
        ("transfer=+12025550143", Transfer("+12025550143", **SIGNED_WITH)),
    ],
)
async def test_a_call_is_not_taken(query: str, plan: object) -> None:
    async with serving() as client:
        _, answer = await post(client, f"{START}?{query}")

        assert parse_plan(answer) == plan


async def test_the_greeting() -> None:
    async with serving() as client:
        _, answer = await post(client, f"{START}?greeting=")
        assert answer["greeting"] == ""
        _, answer = await post(client, f"{START}?greeting=Hello")
        assert answer["greeting"] == "Hello"


async def test_fields_are_left_out() -> None:
    async with serving() as client:
        _, answer = await post(client, f"{START}?omit=openaiApiKey,systemPrompt")

        with pytest.raises(PlanError) as wrong:
            parse_plan(answer)
        assert wrong.value.fields.keys() == {"openaiApiKey", "systemPrompt"}


async def test_credentials_are_left_out_of_a_transfer() -> None:
    async with serving() as client:
        _, answer = await post(client, f"{START}?transfer=+12025550143&omit=twilioAuthToken")

        with pytest.raises(PlanError) as wrong:
            parse_plan(answer)
        assert wrong.value.fields.keys() == {"twilioAuthToken"}


async def test_a_script_for_the_model() -> None:
    async with serving() as client:
        status, answer = await post(client, START, params={"script": '[{"say": "Hi"}]'})
        assert status == 200
        assert script_in(answer["systemPrompt"]) == [(Say("Hi"),)]

        status, answer = await post(client, START, params={"script": "[{"})
        assert status == 400


@pytest.mark.parametrize("path", [START, "/backend/calls/end", "/backend/tools"])
async def test_every_callback_can_fail(path: str) -> None:
    async with serving() as client:
        assert (await post(client, f"{path}?error=503"))[0] == 503


@pytest.mark.parametrize("query", ["error=200", "error=often", "slow=very"])
async def test_a_query_that_makes_no_sense(query: str) -> None:
    async with serving() as client:
        assert (await post(client, f"{START}?{query}"))[0] == 400


async def test_a_slow_answer_does_not_hold_up_the_end() -> None:
    async with serving() as client:
        waiting = asyncio.create_task(post(client, f"{START}?slow=60"))
        assert (await post(client, START))[0] == 200
        assert not waiting.done()
        await client.server.close()
        assert (await waiting)[0] == 200


async def test_a_slow_answer_comes() -> None:
    async with serving() as client:
        assert (await post(client, f"{START}?slow=0.01"))[0] == 200


# Tools


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        (
            "look_up_order",
            {"orderNumber": "a-1001"},
            "Order A-1001 is on its way and arrives in 12 minutes.",
        ),
        ("look_up_order", {"orderNumber": "B-7"}, "There is no order B-7."),
        ("book_table", {"guests": 4, "time": "19:30"}, "A table for 4 at 19:30 is booked."),
    ],
)
async def test_tools_run(name: str, arguments: dict[str, Any], result: str) -> None:
    async with serving() as client:
        body = {"callSid": "CA1", "toolName": name, "arguments": arguments}

        assert await post(client, "/backend/tools", body) == (200, {"result": result})


def test_every_tool_that_is_offered_runs() -> None:
    for tool in TOOLS:
        assert run_tool(tool["name"], {})


async def test_tools_that_do_not_exist() -> None:
    async with serving() as client:
        unknown = {"toolName": "fly", "arguments": {}}
        assert (await post(client, "/backend/tools", unknown))[0] == 404
        assert (await post(client, "/backend/tools", {"toolName": "fly"}))[0] == 400


# Signatures


async def post_signed(client: Client, *secrets: str) -> int:
    body = json.dumps(CALL).encode()
    headers = signed(*secrets, body=body)
    async with client.post("/backend/calls/end", data=body, headers=headers) as response:
        return response.status


async def test_a_signed_callback_is_taken_and_another_one_is_not() -> None:
    async with serving(SECRET) as client:
        assert await post_signed(client, SECRET) == 200
        assert await post_signed(client, OTHER) == 401
        assert (await post(client, "/backend/calls/end"))[0] == 401

        verdicts = [entry["signatures"] for entry in await journal(client)]
        assert [verdict["standard"] for verdict in verdicts] == ["valid", "invalid", "missing"]
        assert [verdict["legacy"] for verdict in verdicts] == ["valid", "invalid", "missing"]


async def test_the_backend_is_told_a_secret() -> None:
    async with serving() as client:
        assert await post_signed(client, OTHER) == 200
        async with client.post("/backend/secret", json={"secret": SECRET}) as response:
            assert response.status == 204
        assert await post_signed(client, SECRET) == 200
        assert await post_signed(client, OTHER) == 401


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}", b'{"secret": "short"}'])
async def test_what_is_no_secret_is_refused(body: bytes) -> None:
    async with serving() as client:
        async with client.post("/backend/secret", data=body) as response:
            assert response.status == 400
        assert await post_signed(client, OTHER) == 200


@pytest.mark.parametrize("body", [b"not json", b"[]", b"\xff"])
async def test_a_body_that_makes_no_sense(body: bytes) -> None:
    async with serving() as client:
        async with client.post(START, data=body) as response:
            assert response.status == 400
        [entry] = await journal(client)
        assert entry["status"] == 400


# What it shows


async def test_callbacks_are_shown_without_credentials() -> None:
    async with serving(SECRET) as client:
        body = json.dumps(CALL).encode()
        await client.post(START, data=body, headers=signed(SECRET, body=body))
        [entry] = await journal(client)
        page = await (await client.get("/backend/")).text()

        assert entry["callback"] == "onCallStart"
        assert entry["body"] == CALL
        assert entry["status"] == 200
        assert entry["answer"]["voice"] == "marin"
        for text in (page, json.dumps(entry)):
            assert SANDBOX_OPENAI_KEY not in text
            assert SANDBOX_AUTH_TOKEN not in text
            assert SECRET not in text


async def test_new_callbacks_are_waited_for() -> None:
    async with serving() as client:
        await post(client, "/backend/calls/end")
        waiting = asyncio.create_task(journal(client, "?after=1&wait=5"))
        await post(client, "/backend/calls/error", {**CALL, "code": "model_unreachable"})

        [entry] = await waiting
        assert (entry["number"], entry["callback"]) == (2, "onError")
        assert await journal(client, "?after=2&wait=0.01") == []


async def test_nobody_waits_for_a_backend_that_stops() -> None:
    async with serving() as client:
        waiting = asyncio.create_task(journal(client, "?wait=60"))
        assert (await post(client, "/backend/calls/end", params={"error": "500"}))[0] == 500
        [entry] = await waiting
        waiting = asyncio.create_task(journal(client, f"?after={entry['number']}&wait=60"))
        await journal(client)
        await client.server.close()
        assert await waiting == []


async def test_waiting_needs_numbers() -> None:
    async with serving() as client, client.get("/backend/callbacks?after=x") as response:
        assert response.status == 400


async def test_only_the_latest_are_kept() -> None:
    async with serving() as client:
        for _ in range(SIZE + 1):
            await post(client, "/backend/calls/end")

        numbers = [entry["number"] for entry in await journal(client)]
        assert numbers == list(range(2, SIZE + 2))


async def test_the_page_is_plain() -> None:
    async with serving() as client:
        empty = await (await client.get("/backend/")).text()
        await post(client, START, {**CALL, "callerPhone": "<script>"})
        async with client.get("/backend/") as response:
            page = await response.text()

        assert "Nobody has called yet." in empty
        assert response.content_type == "text/html"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "&lt;script&gt; calls +12025550102" in page
        assert "<script" not in page


@pytest.mark.parametrize(
    ("body", "gist"),
    [
        ({"toolName": "book_table"}, "book_table"),
        ({"endedReason": "caller_hangup", "durationSeconds": 47}, "caller_hangup after 47 s"),
        ({"code": "model_unreachable"}, "model_unreachable"),
        (None, ""),
    ],
)
def test_the_page_says_what_a_callback_is_about(body: Any, gist: str) -> None:
    entry = Entry(1, datetime.now(UTC), "onX", {}, Signatures("valid", "valid"), body, 200, None)
    assert f"<strong>onX</strong> {gist}\n" in render([entry], knows_a_secret=True)
