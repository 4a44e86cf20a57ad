"""A canary for each of a customer's credentials, to be found nowhere after a call and an error."""

from __future__ import annotations

import html
import json
import logging

import pytest
from aiohttp import web
from django.db import connection

from core.tests.sentry import reporting_to_sentry
from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.phone.exchange import Phone
from sandbox.tests.customer import ACCOUNT_SID, NUMBER
from telephony.callbacks.attempts import answer_of
from telephony.db import in_database
from telephony.engine.session import CallSession
from telephony.models import Call, CallbackAttempt, FailedRequest
from telephony.tests.wire.conftest import OPENAI_KEY

TOKEN = "canary-of-the-twilio-token"
KEY = "sk-canary-of-the-openai-key"


def dump():
    """Return every value of every table, as text; what is kept sealed for a page is opened."""
    sealed = [*CallbackAttempt.objects.all(), *FailedRequest.objects.all()]
    opened = [answer_of(each) for each in sealed]
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        rows = []
        for table in tables:
            cursor.execute(f'SELECT t::text FROM "{table}" t')  # noqa: S608
            rows += [text for (text,) in cursor.fetchall()]
    return "\n".join(rows + opened)


def is_free_of_canaries(text):
    hexed = [each.encode().hex() for each in (TOKEN, KEY)]
    return not any(canary in text for canary in (TOKEN, KEY, *hexed))


@pytest.fixture
async def phone(world):
    world.backend.plan |= {"twilioAuthToken": TOKEN, "openaiApiKey": KEY}
    async with Phone(
        voice_url=world.phone.voice_url, account_sid=ACCOUNT_SID, auth_token=TOKEN, speed=10
    ) as phone:
        yield phone


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text + "\n".join(str(vars(record)) for record in caplog.records)


async def test_they_are_nowhere_while_a_call_runs_and_after_it(
    world, model, phone, logged, client, operator
):
    async with model(Script()) as openai:
        ringing = phone.ring(to=NUMBER)
        await ringing.journal.wait_for("response")
        at_the_start = await in_database(dump)
        await ringing.journal.wait_for("stream-connected")
        await openai.wait_for(lambda server: server.sessions)
        assert KEY in openai.sessions[0].headers["Authorization"]
        during = await in_database(dump)
        call = await world.hang_up(ringing)
    await world.work()
    assert ringing.sid in at_the_start
    for text in (at_the_start, during, await in_database(dump), logged()):
        assert is_free_of_canaries(text)
    await in_database(client.force_login, operator)
    page = await in_database(client.get, f"/admin/telephony/call/{call.pk}/change/")
    assert page.status_code == 200
    assert is_free_of_canaries(page.content.decode())


async def test_an_error_of_ours_does_not_tell_them(world, model, phone, logged, monkeypatch):
    def fails(self, event):
        raise RuntimeError(f"{self._plan.twilio_auth_token} {self._plan.openai_api_key}")

    monkeypatch.setattr(CallSession, "receive", lambda self, event, now: fails(self, event))
    with reporting_to_sentry() as sentry:
        async with model():
            ringing = phone.ring(to=NUMBER)
            call = await world.over(ringing)
        [report] = sentry.reported()
    assert call.ended_reason == "internal_error"
    assert report["message"] == "call_abandoned"
    assert report["tags"]["call_sid"] == ringing.sid
    assert is_free_of_canaries(sentry.raw)
    assert NUMBER not in sentry.raw
    error = await world.told("error")
    assert error["code"] == "internal_error"
    assert is_free_of_canaries(logged() + str(error))
    assert is_free_of_canaries(await in_database(dump))


async def test_an_error_in_the_webhook_does_not_tell_them(
    world, phone, logged, monkeypatch, settings
):
    from telephony.voice import twilio_form

    def fails(*args):
        raise RuntimeError("forced")

    monkeypatch.setattr(twilio_form, "is_signed_webhook", fails)
    settings.DEBUG = True  # the technical page shows local variables
    ringing = phone.ring(to=NUMBER)
    await ringing.journal.wait_for("ended")
    (answer,) = ringing.journal.of("response")
    assert answer["status"] == 500
    assert is_free_of_canaries(answer["body"])
    assert is_free_of_canaries(logged())
    assert await in_database(Call.objects.count) == 1


async def test_a_key_that_openai_refuses_is_not_quoted(world, model, phone, logged):
    world.backend.plan["openaiApiKey"] = "sk-canary-that-is-wrong"
    async with model():
        await world.over(phone.ring(to=NUMBER))
    error = await world.told("error")
    assert error["code"] == "model_invalid_api_key"
    for text in (str(error), await in_database(dump), logged()):
        assert "sk-canar" not in text


@pytest.mark.parametrize(
    ("status", "form"),
    [
        (500, json.dumps),
        (200, lambda plan: json.dumps(plan | {"voice": "bob"})),
        (200, lambda plan: json.dumps(plan)[:-1]),
        (200, lambda plan: json.dumps(plan)[: json.dumps(plan).index(KEY) + 9]),
        (200, lambda plan: f"<pre>{html.escape(repr(plan))}</pre>"),
    ],
    ids=["status", "field", "broken", "cut off", "html"],
)
async def test_a_response_that_cannot_be_used_is_kept_without_them(
    world, phone, logged, client, alice_api, status, form
):
    world.backend.start = lambda: web.Response(status=status, text=form(world.backend.plan))
    call = await world.over(phone.ring(to=NUMBER))
    assert call.ended_reason == "rejected"
    await world.work()
    failed = await in_database(call.failed_requests.get)
    assert (failed.kind, failed.result) == ("onCallStart", str(status))
    assert failed.url == f"{world.backend.url}/start"
    assert "Be brief." in answer_of(failed) or "twilioA" in answer_of(failed)
    await in_database(client.force_login, world.account)
    page = await in_database(client.get, f"/dashboard/calls/{call.pk}")
    api = await in_database(alice_api.get, f"/api/calls/{call.pk}")
    assert api.json()["call"]["failedRequests"][0]["answer"] == answer_of(failed)
    for text in (await in_database(dump), logged(), page.content.decode(), api.content.decode()):
        assert is_free_of_canaries(text)
        assert "sk-canar" not in text


async def test_a_failed_tool_is_kept_without_them(world, model, phone, logged):
    async def broken(body):
        return web.json_response({"error": "No.", "env": [TOKEN, KEY]}, status=500)

    world.backend.tool = broken
    world.backend.plan["openaiApiKey"] = OPENAI_KEY  # which the model accepts
    async with model(Script(turns=[CallTool("book_table", {}), Say("Sorry.")])):
        ringing = phone.ring(to=NUMBER)
        await ringing.person.hears("Hello.")
        await ringing.person.say("Book a table")
        await ringing.person.hears("Sorry.")
        call = await world.hang_up(ringing)
    failed = await in_database(call.failed_requests.get)
    assert "No." in answer_of(failed)
    for text in (await in_database(dump), logged()):
        assert is_free_of_canaries(text)
