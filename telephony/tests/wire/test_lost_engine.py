"""The engine's process dies in the middle of a call, and what is left ends the call, once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from django.conf import settings as configured
from procrastinate.contrib.django.models import ProcrastinateJob

from core.tests.waiting import until
from core.tests.web import database_url, is_free
from devtools.ports import free_ports
from sandbox.model import Say, Script
from sandbox.phone.exchange import Phone
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER
from telephony import links
from telephony.db import in_database
from telephony.models import Call, CallProgress
from telephony.tests.wire.test_refusals import post
from telephony.voice.tasks import close_call
from usage.models import TotalUsage, UsageRecord

ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def engine(model_url, **settings):
    """Run the engine as in production, gunicorn and all; yield its process and its URL."""
    port, media_port = free_ports(2)
    environment = {
        **os.environ,
        "DEBUG": "1",
        "SANDBOX": "1",
        "SECRET_KEY": configured.SECRET_KEY,
        "DATABASE_URL": database_url(),
        "PORT": str(port),
        "MEDIA_PORT": str(media_port),
        "OPENAI_REALTIME_URL": model_url,
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "config/gunicorn.conf.py",
        "--graceful-timeout=60",
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await _ready(process)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        _kill(process)
        await process.communicate()


async def _ready(process):
    """Read the log until the worker listens."""
    async with asyncio.timeout(30):
        while line := await process.stderr.readline():
            if b"ASGI server listening" in line:
                return
    raise AssertionError("The engine did not start.")


def _kill(process):
    """kill -9, the arbiter and its worker alike."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
async def lost_call(world, model):
    """A call that had begun when its engine was killed."""
    async with (
        model() as openai,
        engine(openai.url) as (process, url),
        Phone(
            voice_url=f"{url}/voice", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN, speed=10
        ) as phone,
    ):
        ringing = phone.ring(to=NUMBER)
        await ringing.person.hears("Hello.")
        await ringing.person.say("Are you there")
        await openai.wait_for(
            lambda server: server.sessions[0].sent_of(
                "conversation.item.input_audio_transcription.completed"
            )
        )
        call = await in_database(Call.objects.get, call_sid=ringing.sid)
        await _kept(call)
        _kill(process)
        await ringing.journal.wait_for("ended")
        yield call, ringing


async def _kept(call):
    """Wait until the engine has recorded the conversation."""
    kept = CallProgress.objects.filter(call=call)
    await until(lambda: in_database(kept.exists))


async def _assert_ended_once(world, call):
    call = await in_database(Call.objects.get, pk=call.pk)
    assert (call.status, call.ended_reason) == ("completed", "engine_lost")
    record = await in_database(UsageRecord.objects.get)
    assert record.minutes == 1
    totals = await in_database(TotalUsage.objects.get)
    assert (totals.calls, totals.minutes) == (1, 1)
    end = await world.told("end")
    assert end["endedReason"] == "engine_lost"
    assert end["transcript"][0]["text"] == "Hello."
    (error,) = world.backend.to("error")
    assert error.body["code"] == "engine_lost"


@pytest.mark.parametrize("is_told", [False, True])
async def test_the_other_engine_ends_it(world, lost_call, is_told):
    """Run with Twilio's callbacks reaching the other process, and without."""
    call, _ = lost_call
    if is_told:
        fields = {"CallSid": call.call_sid, "StreamEvent": "stream-stopped"}
        for _ in range(2):  # Twilio tells both URLs, and may repeat itself
            assert (await post(world, fields, url=links.stream_status_url(call.id)))[0] == 204
            status, twiml = await post(world, fields, url=links.after_stream_url(call.id))
        assert status == 200
        assert "We are sorry" in twiml
        job = await in_database(
            ProcrastinateJob.objects.get, task_name="telephony.voice.tasks.close_call"
        )
        await in_database(close_call, **job.args)
        assert await in_database(Call.objects.live().exists)  # the engine may only be slow
    over = Call.objects.filter(pk=call.pk, ended_at__isnull=False)
    await until(lambda: in_database(over.exists), within=15)
    await _assert_ended_once(world, call)


async def test_an_engine_whose_arbiter_was_killed_hands_its_call_over_and_leaves(
    world, model, settings
):
    """Meanwhile another engine can take its ports."""
    (media_port,) = free_ports(1)
    ours, theirs = settings.MEDIA_STREAM_URL, f"ws://127.0.0.1:{media_port}/media"
    async with (
        model(Script(turns=[Say("Still here.")])) as openai,
        engine(openai.url, MEDIA_PORT=f"{media_port}") as (process, url),
    ):
        settings.MEDIA_STREAM_URL = theirs
        ringing = await world.greeted()
        settings.MEDIA_STREAM_URL = ours
        (worker,) = psutil.Process(process.pid).children()
        process.kill()
        port = int(url.rpartition(":")[2])
        await until(lambda: is_free(port))
        await until(lambda: world.media.calls.ids)
        await ringing.person.say("Are you there")
        await ringing.person.hears("Still here.")
        await asyncio.to_thread(worker.wait, 30)
        call = await world.hang_up(ringing)
    assert call.ended_reason == "caller_hangup"
