"""Hostile backends: their data is not parsed on the event loop, stored, or repeated at length."""

from __future__ import annotations

import asyncio
import threading

import orjson
import pytest

from sandbox.backend import hostile
from sandbox.tests.customer import NUMBER
from telephony.bounded_json import LARGE
from telephony.db import in_database
from telephony.models import Call, PhoneNumber
from telephony.tests.wire.test_refusals import REJECTED, form, post

LONGEST_ERROR = 4_096  # bytes
# The text in onError for each response.
NAMED = {
    "69000-tools": "Respond with a JSON object that has at most 128 tools and 16 KB of metadata.",
    "20000-tools": "tools: Use at most 128 entries: there are 20,000.",
    "zeros": "tools: Use at most 128 entries: there are 500,000.",
    "empty-lists": "more than 25,000 lists and objects",
    "100000-fields": "has more than 50,000 members of objects.",
    "10000-fields": "body: Use at most 256 fields: there are 10,000.",
    "depth": "nested more than 32 deep",
    "deep-parameters": "tools: Nest lists and objects at most 32 deep.",
    "metadata": "metadata: Use at most 16 KB of JSON.",
    "metadata-of-objects": "more than 25,000 lists and objects",
    "long-texts": "systemPrompt: Use at most 65,536 characters.",
    "wrong-names": "and 108 more.",
    "one-byte-chunks": "more than 4,096 pieces",
    "interim-responses": "the response has too much data around its body",
}


@pytest.fixture
async def numbers(world):
    """Numbers whose backends are hostile, by their fault."""
    async with await hostile.serve(hostile.answers()) as server:
        port = server.sockets[0].getsockname()[1]
        numbers = {name: f"+1555000{index:04}" for index, name in enumerate(NAMED)}
        for name, number in numbers.items():
            await in_database(
                PhoneNumber.objects.create,
                account=world.account,
                phone_number=number,
                on_call_start_url=f"http://127.0.0.1:{port}/{name}",
                on_call_end_url=f"{world.backend.url}/end",
                on_error_url=f"{world.backend.url}/error",
            )
        yield numbers


@pytest.fixture
def threads(monkeypatch):
    """The threads in which JSON of each size was decoded."""
    threads = set()
    loads = orjson.loads

    def noting(text):
        if len(text) > LARGE:
            threads.add(threading.current_thread())
        return loads(text)

    monkeypatch.setattr(orjson, "loads", noting)
    return threads


async def test_all_of_them_at_once(world, numbers, threads):
    forms = {name: form(To=number) for name, number in numbers.items()}
    ordinary = form(To=NUMBER)
    answers = await asyncio.gather(
        *(post(world, fields) for fields in forms.values()), post(world, ordinary)
    )
    assert answers[:-1] == [(200, REJECTED)] * len(forms)
    assert "<Connect" in answers[-1][1]
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    for name, fields in forms.items():
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        error = await in_database(lambda call=call: call.events.get(kind="error").detail)
        assert error["code"] == "call_start_bad_answer"
        assert NAMED[name] in error["message"], name
        assert len(error["message"].encode()) <= LONGEST_ERROR
