"""Requests that Twilio did not send, or that do not tell the truth, change nothing for anybody."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import aiohttp
import pytest
from django.db import transaction
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.audit import AuditEvent
from core.tests.waiting import until
from sandbox.phone.identity import new_sid
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER
from telephony import links
from telephony.admission import RING_LASTS
from telephony.db import in_database
from telephony.engines import calls_end_stale
from telephony.models import Call, PhoneNumber, Process, ReleasedNumber
from telephony.numbers import phone_number_register, phone_number_remove, phone_number_update
from telephony.services import call_end
from telephony.tests.wire.test_refusals import (
    BUSY,
    REJECTED,
    form,
    post,
    spend,
    stream,
    ticket_in,
)
from telephony.voice import transactions
from telephony.voice.handover import VALID_FOR
from telephony.voice.tasks import CLOSE_AFTER, close_call
from usage.models import UsageRecord
from usage.spending import spending_limit_set

FOREIGN = "AC" + "f" * 32
OVER = [
    *(("status", {"CallStatus": status}) for status in ("busy", "no-answer", "failed", "canceled")),
    ("status", {"CallStatus": "completed"}),
    ("stream", {"StreamEvent": "stream-stopped"}),
    ("stream", {"StreamEvent": "stream-error", "StreamError": "gone"}),
    ("after", {}),
]
LINKS = {
    "status": links.status_url,
    "stream": links.stream_status_url,
    "after": links.after_stream_url,
}


async def call_of(ringing):
    return await in_database(Call.objects.get, call_sid=ringing.sid)


async def say_over(call, purpose, content, **options):
    fields = {"CallSid": call.call_sid, "AccountSid": ACCOUNT_SID, **content}
    return await post(None, fields, url=LINKS[purpose](call.id), **options)


def close():
    """Run the worker's job after a report that the call has ended."""
    for job in ProcrastinateJob.objects.filter(task_name="telephony.voice.tasks.close_call"):
        close_call(**job.args)


@transaction.atomic
def close_while_the_engine_is_up():
    """Run the job, and let the engine have reported that it is up, as it does all the time.

    Its next real report waits for the end of the transaction.
    """
    Process.objects.update(last_seen_at=timezone.now() + 2 * CLOSE_AFTER)
    close()


class TestTheRecordFollowsTheSocket:
    """The call's owner knows its links and the token that signs, but cannot stop the charges."""

    @pytest.mark.parametrize(("purpose", "content"), OVER)
    async def test_what_is_signed_right_changes_nothing_while_the_socket_is_open(
        self, world, model, purpose, content
    ):
        async with model():
            ringing = await world.greeted()
            call = await call_of(ringing)
            await say_over(call, purpose, content)
            await in_database(close)
            assert await in_database(Call.objects.live().filter(pk=call.pk).exists)
            await in_database(close_while_the_engine_is_up)
            assert await in_database(Call.objects.live().filter(pk=call.pk).exists)
            assert (await world.hang_up(ringing)).ended_reason == "caller_hangup"
        assert "status_ignored" in await world.timeline(call)
        record = await in_database(UsageRecord.objects.get)
        assert record.duration_seconds == (await call_of(ringing)).duration_seconds

    @pytest.mark.parametrize(("purpose", "content"), OVER)
    async def test_a_link_that_is_used_again_and_again_adds_little(
        self, world, model, purpose, content
    ):
        async with model():
            ringing = await world.greeted()
            call = await call_of(ringing)
            for _ in range(5):
                await say_over(call, purpose, content)
            await world.hang_up(ringing)
            for _ in range(5):
                await say_over(call, purpose, content)
        timeline = await world.timeline(call)
        assert timeline.count("status_ignored") + timeline.count("stream_error") <= 1

    async def test_what_is_not_signed_is_403(self, world, model):
        async with model():
            ringing = await world.greeted()
            call = await call_of(ringing)
            for purpose, content in OVER:
                for headers in ({}, {"X-Twilio-Signature": "forged"}):
                    said = await say_over(call, purpose, content, headers=headers)
                    assert said == (403, "X-Twilio-Signature does not match.\n"), (purpose, content)
            await world.hang_up(ringing)
        assert "status_ignored" not in await world.timeline(call)

    async def test_a_call_that_was_ended_by_anybody_loses_its_socket(self, world, model):
        async with model():
            ringing = await world.greeted()
            call = await call_of(ringing)
            over = {"status": Call.Status.FAILED, "reason": "failed"}
            assert await in_database(call_end, call_id=call.pk, **over)
            call = await world.over(ringing)
        assert call.ended_reason == "failed"
        assert await in_database(UsageRecord.objects.count) == 1

    async def test_a_call_whose_engine_was_cut_off_goes_on(self, world, model):
        """It is ended as lost, and its engine resumes it."""
        async with model():
            ringing = await world.greeted()
            call = await call_of(ringing)
            await in_database(calls_end_stale, timezone.now() + timedelta(minutes=5))
            await until(lambda: in_database(call.events.filter(kind="resumed").exists))
            await ringing.person.say("Still there")
            await ringing.person.hears("Still there")
            call = await world.hang_up(ringing)
        assert call.ended_reason == "caller_hangup"
        end = await world.told("end")
        assert end["endedReason"] == "caller_hangup"
        assert [line["text"] for line in end["transcript"]][:2] == ["Hello.", "Still there"]
        assert world.backend.to("error") == []

    async def test_a_call_that_ends_while_its_engine_is_taken_for_dead(self, world, model):
        async with model():
            ringing = await world.greeted()
            ringing.person.hang_up()
            await in_database(calls_end_stale, timezone.now() + timedelta(minutes=5))
            call = await world.over(ringing)
        assert call.ended_reason == "caller_hangup"
        assert (await world.told("end"))["endedReason"] == "caller_hangup"

    async def test_the_stop_message_closes_the_socket(self, world, model):
        async with model():
            fields = form()
            _, twiml = await post(world, fields)
            async with aiohttp.ClientSession() as session:
                url = f"ws://127.0.0.1:{world.media.port}/media"
                socket = await session.ws_connect(url)
                await socket.send_json(start(fields["CallSid"], ticket_in(twiml)))
                await socket.receive(timeout=10)  # the greeting: the call is connected
                await socket.send_json({"event": "stop", "stop": {"callSid": fields["CallSid"]}})
                async with asyncio.timeout(10):
                    async for _ in socket:
                        pass
                assert socket.close_code == 1000
            async with asyncio.timeout(10):
                await world.media.calls.wait_until_none()
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        assert call.ended_reason == "caller_hangup"


def start(call_sid, ticket):
    sid = "MZ" + "0" * 32
    content = {
        "streamSid": sid,
        "accountSid": ACCOUNT_SID,
        "callSid": call_sid,
        "tracks": ["inbound"],
        "customParameters": {"ticket": ticket},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    return {"event": "start", "sequenceNumber": "1", "start": content, "streamSid": sid}


class TestWhatCostsTheOwnerOfANumber:
    """B has registered a number whose calls A's Twilio account still sends here."""

    TRANSFER = {"transfer": "+12125550100"}
    SPOKEN = {"reject": True, "message": "Give me your card number."}

    @pytest.mark.parametrize("answer", [TRANSFER, SPOKEN])
    async def test_it_needs_the_signature_of_the_account_that_pays(self, world, answer):
        world.backend.answer = {
            **answer,
            "twilioAccountSid": ACCOUNT_SID,
            "twilioAuthToken": "a token of another account",
        }
        status, text = await post(world, form())
        assert status == 403
        assert "<" not in text
        assert (await world.told("error"))["code"] == "invalid_twilio_signature"

    @pytest.mark.parametrize("answer", [TRANSFER, SPOKEN])
    async def test_it_needs_the_account_that_the_call_came_from(self, world, answer):
        world.backend.answer = {
            **answer,
            "twilioAccountSid": FOREIGN,
            "twilioAuthToken": AUTH_TOKEN,
        }
        assert (await post(world, form()))[0] == 403
        assert (await world.told("error"))["code"] == "account_sid_mismatch"

    @pytest.mark.parametrize("answer", [TRANSFER, SPOKEN])
    async def test_it_needs_credentials_at_all(self, world, answer):
        world.backend.answer = answer
        assert await post(world, form()) == (200, REJECTED)
        assert "twilioAccountSid" in (await world.told("error"))["message"]

    async def test_a_bare_rejection_needs_none(self, world):
        world.backend.answer = {"reject": True, "reason": "busy"}
        assert await post(world, form(), token="whoever") == (200, BUSY)


async def the_number():
    return await in_database(PhoneNumber.objects.get, phone_number=NUMBER)


class TestTheAccountOfANumber:
    async def test_the_first_verified_call_binds_it(self, world):
        await post(world, form(), token="forged")
        assert (await the_number()).twilio_account_sid == ""
        await post(world, form())
        number = await the_number()
        assert number.twilio_account_sid == ACCOUNT_SID
        assert number.verified_at is not None
        event = await in_database(AuditEvent.objects.get, action="phone_number.bound")
        assert event.actor_kind == "system"
        assert event.detail == {"number": NUMBER, "twilioAccount": ACCOUNT_SID}

    @pytest.mark.parametrize("answer", [{"transfer": "+12125550100"}, None])
    async def test_another_account_is_refused_before_the_backend_is_asked(self, world, answer):
        await post(world, form())
        world.backend.received.clear()
        fields = form(AccountSid=FOREIGN)
        assert (await post(world, fields, token="of the other"))[0] == 403
        assert world.backend.to("start") == []
        assert (await the_number()).refused_account_sid == FOREIGN
        error = await world.told("error")
        assert (error["code"], error["callSid"]) == ("account_sid_mismatch", fields["CallSid"])
        assert f"AC…{FOREIGN[-4:]}" in error["message"]
        assert f"AC…{ACCOUNT_SID[-4:]}" in error["message"]
        assert FOREIGN not in error["message"]

    async def test_the_owner_is_told_once_an_hour(self, world):
        await post(world, form())
        for _ in range(5):
            await post(world, form(AccountSid=FOREIGN))
        await world.work()
        assert len(world.backend.to("error")) == 1
        assert await in_database(Call.objects.count) == 2
        await in_database(
            PhoneNumber.objects.update, refused_at=timezone.now() - timedelta(hours=1)
        )
        await post(world, form(AccountSid=FOREIGN))
        await world.work()
        assert len(world.backend.to("error")) == 2

    async def test_the_owner_confirms_a_new_one(self, world):
        await post(world, form())
        world.backend.plan["twilioAccountSid"] = FOREIGN
        assert (await post(world, form(AccountSid=FOREIGN)))[0] == 403
        number = await the_number()
        await in_database(
            phone_number_update, account=world.account, id=number.id, twilio_account_sid=FOREIGN
        )
        assert "<Connect" in (await post(world, form(AccountSid=FOREIGN)))[1]
        assert (await post(world, form()))[0] == 403
        assert (await the_number()).refused_account_sid == ACCOUNT_SID

    async def test_one_that_is_taken_away_is_bound_again(self, world):
        await post(world, form())
        number = await the_number()
        await in_database(
            phone_number_update, account=world.account, id=number.id, twilio_account_sid=""
        )
        await post(world, form())
        assert (await the_number()).twilio_account_sid == ACCOUNT_SID

    async def test_a_released_number_is_held_back(self, world, bob):
        await post(world, form())
        number = await the_number()
        await in_database(phone_number_remove, account=world.account, id=number.id)
        released = await in_database(ReleasedNumber.objects.get)
        assert (released.phone_number, released.account_id) == (NUMBER, world.account.id)
        assert await post(world, form()) == (200, REJECTED)

    async def test_its_owner_may_take_it_back_as_it_was(self, world):
        await post(world, form())
        number = await the_number()
        await in_database(phone_number_remove, account=world.account, id=number.id)
        again, is_new = await in_database(
            phone_number_register,
            account=world.account,
            phone_number=NUMBER,
            on_call_start_url=number.on_call_start_url,
            on_call_end_url=number.on_call_end_url,
        )
        assert is_new
        assert again.twilio_account_sid == ACCOUNT_SID
        assert (await post(world, form(AccountSid=FOREIGN)))[0] == 403
        assert not await in_database(ReleasedNumber.objects.exists)


class TestForgedRings:
    """Anybody who knows a number can send webhooks for it."""

    async def test_they_leave_room_for_calls(self, world, settings):
        settings.MAX_CONCURRENT_CALLS = 3
        for _ in range(10):
            await post(world, form(), token="forged")
        assert await in_database(Call.objects.live().count) == 0
        assert "<Connect" in (await post(world, form()))[1]

    async def test_those_that_wait_for_the_backend_are_few(self, world, settings):
        settings.MAX_UNVERIFIED_RINGS = 2
        now = timezone.now()
        for _ in range(2):
            await in_database(ring, world, held_until=now + RING_LASTS)
        assert await post(world, form()) == (200, BUSY)
        assert world.backend.to("start") == []
        assert await in_database(Call.objects.count) == 2

    async def test_they_take_no_place_of_a_call(self, world, settings):
        settings.MAX_CONCURRENT_CALLS = 1
        settings.MAX_UNVERIFIED_RINGS = 10
        for _ in range(5):
            await in_database(ring, world, held_until=timezone.now() + RING_LASTS)
        assert "<Connect" in (await post(world, form()))[1]

    async def test_they_are_over_when_twilio_would_have_given_up(self, world, settings):
        settings.MAX_UNVERIFIED_RINGS = 1
        await in_database(ring, world, held_until=timezone.now())
        assert "<Connect" in (await post(world, form()))[1]
        assert await in_database(calls_end_stale, timezone.now() + timedelta(seconds=1)) == 1

    @pytest.mark.parametrize("is_spent", [False, True])
    async def test_few_of_those_that_come_to_nothing_are_kept_and_told(
        self, world, monkeypatch, is_spent
    ):
        monkeypatch.setattr(transactions, "MOST_REFUSED", 2)
        if is_spent:
            await in_database(spend, world.account, minutes=10)
            limit = Decimal("0.50")
            await in_database(spending_limit_set, account=world.account, amount=limit)
        answers = [await post(world, form(), token="forged") for _ in range(5)]
        assert len(set(answers)) == 1
        assert await in_database(Call.objects.count) == 2
        await world.work()
        assert len(world.backend.to("error")) == 2
        if not is_spent:
            assert "<Connect" in (await post(world, form()))[1]

    @pytest.mark.parametrize("plan", [{"reject": True}, {"voice": "nobody"}])
    async def test_few_are_kept_of_those_that_the_backend_rejects_or_fails_for(
        self, world, monkeypatch, plan
    ):
        """Its response says nothing about the sender, who needs to know only the number."""
        monkeypatch.setattr(transactions, "MOST_REFUSED", 2)
        world.backend.plan = plan
        answers = [await post(world, form(), token="forged") for _ in range(5)]
        assert answers == [(200, REJECTED)] * 5
        assert await in_database(Call.objects.count) == 2
        # Only its Twilio account can send calls to a bound number.
        await in_database(PhoneNumber.objects.update, twilio_account_sid=ACCOUNT_SID)
        assert [await post(world, form()) for _ in range(3)] == [(200, REJECTED)] * 3
        assert await in_database(Call.objects.count) == 5


def ring(world, **fields):
    return Call.objects.create(
        account=world.account,
        call_sid=new_sid("CA"),
        direction="inbound",
        status="ringing",
        called_number=NUMBER,
        **fields,
    )


class TestAbandonedRings:
    async def test_they_keep_their_place_as_long_as_their_ticket(self, world, settings):
        settings.MAX_CONCURRENT_CALLS = 1
        fields = form()
        _, twiml = await post(world, fields)
        assert "<Connect" in twiml
        assert await post(world, form()) == (200, BUSY)
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        assert call.held_until <= timezone.now() + VALID_FOR
        await in_database(Call.objects.filter(pk=call.pk).update, held_until=timezone.now())
        assert "<Connect" in (await post(world, form()))[1]
        await in_database(calls_end_stale, timezone.now())  # the engine's own sweep may be first
        await until(lambda: in_database(Call.objects.filter(ended_reason="failed").exists))
        assert await stream(world, fields["CallSid"], ticket_in(twiml)) == 1008

    async def test_a_place_that_was_taken_meanwhile_is_busy(self, world, settings):
        """Two calls are asked about at once, and one place is left."""
        settings.MAX_CONCURRENT_CALLS = 1
        answers = await asyncio.gather(*(post(world, form()) for _ in range(5)))
        texts = [text for _, text in answers]
        assert sum("<Connect" in text for text in texts) == 1
        assert texts.count(BUSY) == 4


class TestAnothersRepetition:
    """Somebody knows the CallSid of a call that is being answered, or was."""

    @pytest.mark.parametrize(
        ("changes", "token"),
        [({}, "forged"), ({"AccountSid": FOREIGN}, AUTH_TOKEN), ({"From": "+19805551111"}, "x")],
    )
    async def test_it_is_not_answered_with_the_ticket(self, world, changes, token):
        fields = form()
        _, twiml = await post(world, fields)
        _, other = await post(world, {**fields, **changes}, token=token)
        assert "<Connect" in twiml
        assert "ticket" not in other
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        assert call.ended_at is None

    async def test_it_does_not_disturb_a_call_that_is_being_decided(self, world):
        fields = form()
        (_, twiml), (_, other) = await asyncio.gather(
            post(world, fields), post(world, fields, token="forged")
        )
        connected = [text for text in (twiml, other) if "<Connect" in text]
        assert len(connected) <= 1
        assert len(world.backend.to("start")) == 1

    @pytest.mark.parametrize("is_connected", [False, True])
    async def test_another_process_that_cannot_take_the_call_leaves_it_alone(
        self, world, model, is_connected
    ):
        """Twilio has retried the webhook, and the retry was answered first."""
        fields, late = form(), ("call_start_timeout", "No answer within 10 seconds.")
        async with model():
            _, twiml = await post(world, fields)
            call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
            if not is_connected:
                await in_database(transactions.fail, call, late, asked={"onCallStartMs": 10_000})
            async with aiohttp.ClientSession() as session:
                socket = await session.ws_connect(f"ws://127.0.0.1:{world.media.port}/media")
                await socket.send_json(start(fields["CallSid"], ticket_in(twiml)))
                await socket.receive(timeout=10)  # the greeting: the call is connected
                if is_connected:
                    await in_database(
                        transactions.fail, call, late, asked={"onCallStartMs": 10_000}
                    )
                assert await in_database(Call.objects.live().filter(pk=call.pk).exists)
                await socket.close()
            async with asyncio.timeout(10):
                await world.media.calls.wait_until_none()
        await in_database(call.refresh_from_db)
        assert call.ended_reason == "caller_hangup"
