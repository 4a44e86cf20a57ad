"""The realtime model on its socket, and how it misbehaves there."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from openai.types import Model

from sandbox import speech
from sandbox.constants import SANDBOX_OPENAI_KEY
from sandbox.model import (
    Close,
    Drop,
    Error,
    ModelServer,
    Say,
    Script,
    Stall,
    Wait,
    When,
    serve_model,
)
from sandbox.tests import live
from sandbox.tests.models import heard
from sandbox.tests.realtime import PAUSE, appends, judge, session_update, types

CREATE = {"type": "response.create"}


@asynccontextmanager
async def connect(
    model: ModelServer, *, key: str | None = SANDBOX_OPENAI_KEY, query: str = "?model=gpt-realtime"
) -> AsyncIterator[ClientWebSocketResponse]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        ClientSession() as http,
        http.ws_connect(model.url + query, headers=headers) as socket,
    ):
        yield socket


async def read(socket: ClientWebSocketResponse, until: str) -> list[dict[str, Any]]:
    """Return the events up to one of that type; every one is judged."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while not events or events[-1]["type"] != until:
            events.append(await socket.receive_json())
            judge(events[-1])
    return events


async def read_to_the_end(socket: ClientWebSocketResponse) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        return [json.loads(message.data) async for message in socket]


async def test_it_works() -> None:
    script = Script([Say("Hello"), Say("Goodbye")])
    async with serve_model(script) as model, connect(model) as socket:
        await socket.send_json(session_update())
        await socket.send_json(CREATE)
        first = await read(socket, "rate_limits.updated")
        for event in appends([*speech.frames("Bye"), *PAUSE]):
            await socket.send_json(event)
        second = await read(socket, "rate_limits.updated")

        assert types(first)[:3] == ["session.created", "session.updated", "response.created"]
        assert heard(first) == "Hello"
        assert heard(second) == "Goodbye"
        [record] = model.sessions
        assert record.query == {"model": "gpt-realtime"}
        assert record.received_of("session.update") == [session_update()]
        assert len(record.received_of("input_audio_buffer.append")) == len(PAUSE) + 8
        assert record.sent_of("response.created")[0] in first


async def test_events_are_written_as_openai_writes_them() -> None:
    async with serve_model(Script([Say("Hi")])) as model, connect(model) as socket:
        await socket.send_json(session_update())
        await socket.send_json(CREATE)
        while (text := (await socket.receive()).data).find('.output_audio.delta"') < 0:
            pass

    fields = (
        "type",
        "event_id",
        "response_id",
        "item_id",
        "output_index",
        "content_index",
        "delta",
    )
    assert tuple(json.loads(text)) == fields
    assert text.startswith('{"type":"response.output_audio.delta","event_id":"event_')


async def test_odd_json_means_the_same() -> None:
    script = Script([Say("Hi")], odd_json=True)
    async with serve_model(script) as model, connect(model) as socket:
        await socket.send_json(session_update())
        await socket.send_json(CREATE)
        texts: list[str] = []
        while not texts or "rate_limits.updated" not in texts[-1]:
            texts.append((await socket.receive()).data)

        assert len({text[:8] for text in texts}) > 2
        events = [json.loads(text) for text in texts]
        assert events == model.sessions[0].sent
        assert heard(events) == "Hi"


# Refusals


@pytest.mark.parametrize(
    ("key", "query", "code", "close_code", "reason"),
    [
        ("sk-wrong-key-of-another", "?model=gpt-realtime", "invalid_api_key", 3000, None),
        (None, "?model=gpt-realtime", None, 3000, "invalid_request_error"),
        (SANDBOX_OPENAI_KEY, "?model=gpt-nope", "invalid_model", 4000, None),
        (SANDBOX_OPENAI_KEY, "", "missing_model", 4000, None),
    ],
)
async def test_a_session_that_is_refused(
    key: str | None, query: str, code: str | None, close_code: int, reason: str | None
) -> None:
    async with serve_model() as model, connect(model, key=key, query=query) as socket:
        error = judge(await socket.receive_json())
        message = await socket.receive()

        assert error.error.code == code
        assert "another" not in error.error.message
        assert message.type is WSMsgType.CLOSE
        assert message.data == close_code
        assert message.extra == (reason or f"invalid_request_error.{code}")


async def test_any_key_if_it_does_not_matter() -> None:
    async with serve_model(key=None) as model, connect(model, key="sk-any") as socket:
        assert (await socket.receive_json())["type"] == "session.created"
        assert model.sessions[0].headers["Authorization"] == "Bearer sk-any"


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_an_upgrade_that_is_refused(status: int) -> None:
    async with serve_model(Script(upgrade=status)) as model:
        with pytest.raises(WSServerHandshakeError) as refused:
            async with connect(model):
                pass
    assert refused.value.status == status


async def test_an_upgrade_that_is_never_answered() -> None:
    async with serve_model(Script(upgrade=None)) as model:
        waiting = asyncio.create_task(connect(model).__aenter__())
        await model.wait_for(lambda model: model.sessions)

        assert not waiting.done()
        waiting.cancel()


async def test_binary_messages_are_refused_and_the_session_goes_on() -> None:
    async with serve_model() as model, connect(model) as socket:
        await socket.send_bytes(b"\xff" * 160)
        await socket.send_json(session_update())
        events = await read(socket, "session.updated")

        assert events[1]["error"]["code"] == "invalid_event"


@asynccontextmanager
async def connect_live(
    model: ModelServer, key: str = SANDBOX_OPENAI_KEY
) -> AsyncIterator[ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {key}"}
    async with ClientSession() as http, http.ws_connect(model.live_url, headers=headers) as socket:
        yield socket


async def test_a_live_session() -> None:
    async with serve_model(Script([Say("Hello")])) as model, connect_live(model) as socket:
        await socket.send_json(live.session_start())
        assert (await socket.receive_json())["type"] == "session.started"
        for frame in [*speech.frames("Bye"), *[speech.SILENCE] * 100]:
            await socket.send_json(live.append(frame))
        await socket.send_json({"type": "session.close"})
        events = await read_to_the_end(socket)

        assert heard(events) == "Hello"
        assert types(events)[-1] == "session.closed"
        assert socket.close_code == 1000
        assert model.sessions[0].path == "/openai/v1/live/sessions"


async def test_a_live_session_is_refused_when_it_starts() -> None:
    async with serve_model() as model, connect_live(model, "sk-wrong-key-of-another") as socket:
        await socket.send_json(live.session_start())
        [error] = await read_to_the_end(socket)

        assert error["error"]["code"] == "invalid_api_key"
        assert live.judge(error)


@pytest.mark.parametrize("model_name", ["gpt-live-1", "gpt-live-1.1"])
async def test_each_model_has_its_own_api(model_name: str) -> None:
    async with serve_model() as model:
        async with connect(model, query=f"?model={model_name}") as socket:
            [error] = await read_to_the_end(socket)
        assert error["error"]["code"] == "invalid_model"
        async with connect_live(model) as socket:
            await socket.send_json(live.session_start(model=model_name))
            assert (await socket.receive_json())["session"]["model"] == model_name


async def test_the_models_that_a_key_may_use() -> None:
    headers = {"Authorization": f"Bearer {SANDBOX_OPENAI_KEY}"}
    async with serve_model() as model, ClientSession() as http:
        url = model.url.replace("ws:", "http:").replace("realtime", "models")
        async with http.get(url, headers=headers) as response:
            listed = [Model.model_validate(entry) for entry in (await response.json())["data"]]
        async with http.get(f"{url}/gpt-live-1.1", headers=headers) as response:
            assert Model.model_validate(await response.json()) in listed
        async with http.get(f"{url}/gpt-nope", headers=headers) as response:
            assert response.status == 404
        async with http.get(url, headers={"Authorization": "Bearer sk-wrong"}) as response:
            assert response.status == 401

    assert {"gpt-live-1", "gpt-live-1.1", "gpt-realtime-2.1"} <= {entry.id for entry in listed}


# Misbehaviour


async def test_the_connection_is_dropped_without_a_word() -> None:
    script = Script(when=[When("session.update", (Drop(),))])
    async with serve_model(script) as model, connect(model) as socket:
        await socket.send_json(session_update())

        assert types(await read_to_the_end(socket)) == ["session.created"]
        assert socket.close_code == 1006
        assert await model.wait_for(lambda model: model.sessions[0].is_closed)


async def test_the_connection_is_closed_in_the_middle_of_a_response() -> None:
    script = Script([(Say("Well"), Close(1011, "internal"))])
    async with serve_model(script) as model, connect(model) as socket:
        await socket.send_json(session_update())
        await socket.send_json(CREATE)

        assert heard(await read_to_the_end(socket)) == "Well"
        assert socket.close_code == 1011


async def test_a_test_disturbs_a_session_when_it_likes() -> None:
    async with serve_model(Script([Stall()])) as model, connect(model) as socket:
        await socket.send_json(session_update())
        await socket.send_json(CREATE)
        await read(socket, "response.created")
        model.sessions[0].disturb(Error("server_error"))
        model.sessions[0].disturb(Error("session_expired"))

        events = await read_to_the_end(socket)
        assert [event["error"]["code"] for event in events] == ["server_error", "session_expired"]
        assert socket.close_code == 1001


async def test_only_an_open_session_is_disturbed() -> None:
    async with serve_model(Script(upgrade=500)) as model:
        with pytest.raises(WSServerHandshakeError):
            async with connect(model):
                pass
        with pytest.raises(RuntimeError):
            model.sessions[0].disturb(Drop())


async def test_a_session_expires() -> None:
    async with serve_model(lifetime_s=0.01) as model, connect(model) as socket:
        *_, error = await read_to_the_end(socket)

        assert error["error"]["code"] == "session_expired"
        assert socket.close_code == 1001


async def test_the_server_stops_while_a_session_is_open() -> None:
    async with ClientSession() as http:
        async with serve_model() as model:
            headers = {"Authorization": f"Bearer {SANDBOX_OPENAI_KEY}"}
            socket = await http.ws_connect(f"{model.url}?model=gpt-realtime", headers=headers)
            await socket.receive_json()
            closed = asyncio.create_task(socket.receive())
        assert (await closed).data == 1001


# Time


async def test_pace_is_kept() -> None:
    loop = asyncio.get_running_loop()
    async with (
        serve_model(Script([(Wait(500), Say("Hi"))]), pace=0.1) as model,
        connect(model) as socket,
    ):
        await socket.send_json(session_update())
        begun = loop.time()
        await socket.send_json(CREATE)
        await read(socket, "response.output_audio.delta")

        # Half a second, and the quarter that the model thinks, ten times as fast.
        assert loop.time() - begun >= 0.075


async def test_waiting_in_vain_says_what_was_received() -> None:
    async with serve_model() as model, connect(model) as socket:
        await socket.send_json(CREATE)
        await read(socket, "error")

        with pytest.raises(AssertionError, match=r"response\.create"):
            await model.wait_for(lambda model: None, timeout=0.01)
