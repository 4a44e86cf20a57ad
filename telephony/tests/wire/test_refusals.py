"""Invalid, missing or repeated input: the right TwiML or status, no 5xx, and no charge."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from urllib.parse import urlencode

import aiohttp
import pytest
from django.http import QueryDict
from django.utils import timezone
from twilio.request_validator import RequestValidator

from sandbox.phone.faults import Faults
from sandbox.phone.identity import new_sid
from sandbox.phone.twiml import parse
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER
from telephony import links
from telephony.db import in_database
from telephony.models import Call, PhoneNumber, SealedPlan
from telephony.voice.twilio_form import TwilioForm
from usage.models import DailyUsage, UsageRecord
from usage.spending import spending_limit_set


def form(**changes):
    fields = {
        "CallSid": new_sid("CA"),
        "AccountSid": ACCOUNT_SID,
        "From": "+19805550000",
        "To": NUMBER,
        "Direction": "inbound",
        "CallStatus": "ringing",
        "ApiVersion": "2010-04-01",
    }
    return {**fields, **changes}


async def post(world, fields, *, url="", token=AUTH_TOKEN, headers=None):
    """Post a form as Twilio does; return status and body."""
    url = url or world.phone.voice_url
    signature = RequestValidator(token).compute_signature(url, fields)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url,
            data=fields,
            headers={"X-Twilio-Signature": signature} if headers is None else headers,
        ) as response,
    ):
        return response.status, await response.text()


async def nothing_charged(world):
    assert await in_database(UsageRecord.objects.count) == 0
    await world.work()
    assert world.backend.to("end") == []


REJECTED = '<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="rejected" /></Response>'
BUSY = REJECTED.replace("rejected", "busy")
HANGUP = '<?xml version="1.0" encoding="UTF-8"?><Response><Hangup /></Response>'


class TestTheMethod:
    @pytest.mark.parametrize("method", ["GET", "PUT"])
    async def test_another_than_post_is_told_what_to_set(self, world, method):
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, world.phone.voice_url) as response,
        ):
            assert response.status == 405
            assert response.headers["Allow"] == "POST"
            assert await response.text() == (
                f"This URL accepts POST, but this request is a {method}. In the Twilio Console, "
                "set your number's voice webhook to HTTP POST.\n"
            )

    async def test_a_call_by_get_is_rejected_and_explained_in_twilios_debugger(self, world):
        url = f"{world.phone.voice_url}?{urlencode(form())}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200
            document = parse(await response.text())
        assert [verb.name for verb in document.verbs][:1] == ["Reject"]
        (warning,) = document.warnings
        assert "SetTheVoiceWebhookToHttpPost" in warning
        assert world.backend.received == []
        assert await in_database(Call.objects.count) == 0


class TestTheNumber:
    async def test_an_unknown_number_is_rejected(self, world):
        assert await post(world, form(To="+15550000000")) == (200, REJECTED)
        assert world.backend.received == []

    async def test_a_number_that_is_switched_off_is_rejected(self, world):
        await in_database(PhoneNumber.objects.update, is_active=False)
        assert await post(world, form()) == (200, REJECTED)

    @pytest.mark.parametrize("status", ["INACTIVE", "SUSPENDED"])
    async def test_a_number_of_an_account_that_does_not_pay_is_rejected(self, world, status):
        world.account.status = status
        await in_database(world.account.save)
        assert await post(world, form()) == (200, REJECTED)
        assert world.backend.received == []
        await nothing_charged(world)

    async def test_one_call_too_many_is_busy(self, world, settings):
        settings.MAX_CONCURRENT_CALLS = 0
        assert await post(world, form()) == (200, BUSY)
        await nothing_charged(world)


class TestTheSpendingLimit:
    async def test_a_call_beyond_it_is_rejected_and_reported(self, world, bob):
        await in_database(spend, world.account, minutes=10)
        await in_database(spend, bob, minutes=10)
        await in_database(spending_limit_set, account=world.account, amount=Decimal("0.50"))
        fields = form()
        assert await post(world, fields) == (200, REJECTED)
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        assert (call.status, call.ended_reason) == ("rejected", "rejected")
        assert await world.timeline(call) == ["received", "refused", "ended", "error"]
        assert await in_database(lambda: call.events.get(kind="refused").detail) == {
            "why": "spending_limit_reached"
        }
        error = await world.told("error")
        assert (error["code"], error["callSid"]) == ("spending_limit_reached", call.call_sid)
        assert world.backend.to("start") == []
        await nothing_charged(world)

    async def test_a_limit_that_is_raised_lets_calls_in_at_once(self, world):
        await in_database(spend, world.account, minutes=10)
        await in_database(spending_limit_set, account=world.account, amount=Decimal("0.50"))
        assert await post(world, form()) == (200, REJECTED)
        await in_database(spending_limit_set, account=world.account, amount=Decimal("0.51"))
        assert "<Connect" in (await post(world, form()))[1]

    async def test_a_call_in_progress_continues(self, world, model):
        async with model():
            await in_database(spending_limit_set, account=world.account, amount=Decimal("0.50"))
            ringing = await world.greeted()
            await in_database(spend, world.account, minutes=10)
            assert await post(world, form()) == (200, REJECTED)
            call = await world.hang_up(ringing)
        assert call.ended_reason == "caller_hangup"


def spend(account, *, minutes):
    DailyUsage.objects.create(account=account, day=timezone.now().date(), calls=1, minutes=minutes)


class TestTheForm:
    @pytest.mark.parametrize("missing", ["CallSid", "AccountSid", "To"])
    async def test_a_form_without_what_it_must_have_is_400(self, world, missing):
        fields = form()
        del fields[missing]
        status, text = await post(world, fields)
        assert status == 400
        assert missing in text

    @pytest.mark.parametrize("sid", ["CA1", "CA" + "x" * 32, "' OR 1=1", "CA" + "0" * 31 + "\0"])
    async def test_a_malformed_call_sid_is_400(self, world, sid):
        status, _ = await post(world, form(CallSid=sid))
        assert status == 400

    async def test_get_is_405(self, world):
        async with aiohttp.ClientSession() as http, http.get(world.phone.voice_url) as response:
            assert response.status == 405


class TestTheSignature:
    async def test_without_one_nobody_is_asked(self, world):
        status, _ = await post(world, form(), headers={})
        assert status == 403
        assert world.backend.received == []

    async def test_a_wrong_one_is_403_and_reported(self, world):
        status, _ = await post(world, form(), token="of somebody else")
        assert status == 403
        assert (await world.told("error"))["code"] == "invalid_twilio_signature"
        await nothing_charged(world)

    async def test_the_account_must_be_the_one_that_the_backend_named(self, world):
        status, _ = await post(world, form(AccountSid="AC" + "f" * 32))
        assert status == 403
        error = await world.told("error")
        assert error["code"] == "account_sid_mismatch"
        assert (
            f"account AC…ffff, but onCallStart returned AC…{ACCOUNT_SID[-4:]}" in error["message"]
        )
        await nothing_charged(world)

    @pytest.mark.parametrize("change", [{"AccountSid": "AC" + "f" * 32}, {"To": NUMBER}])
    async def test_its_sender_learns_nothing_of_the_account(self, world, change):
        status, text = await post(world, form(**change), token="of somebody else")
        assert status == 403
        assert ACCOUNT_SID[-4:] not in text

    @pytest.mark.parametrize("token", ["of somebody else", AUTH_TOKEN])
    async def test_a_socket_that_is_signed_must_be_signed_right(self, world, model, token):
        async with model() as openai:
            fields = form()
            _, twiml = await post(world, fields)
            url = f"ws://127.0.0.1:{world.media.port}/media"
            signature = RequestValidator(token).compute_signature(url, {})
            code = await stream(world, fields["CallSid"], ticket_in(twiml), signature=signature)
            assert code == (None if token == AUTH_TOKEN else 1008)
            async with asyncio.timeout(10):
                await world.media.calls.wait_until_none()
        configured = [each.received_of("session.update") for each in openai.sessions]
        assert any(configured) == (token == AUTH_TOKEN)


def ticket_in(twiml):
    return twiml.split('name="ticket" value="')[1].split('"')[0]


async def stream(world, call_sid, ticket, *, signature=None):
    """Open a media socket; return the code with which it is closed, None if it is not."""
    start = {
        "streamSid": "MZ" + "0" * 32,
        "accountSid": ACCOUNT_SID,
        "callSid": call_sid,
        "tracks": ["inbound"],
        "customParameters": {} if ticket is None else {"ticket": ticket},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    url = f"ws://127.0.0.1:{world.media.port}/media"
    headers = {"X-Twilio-Signature": signature} if signature else {}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers) as socket,
    ):
        await socket.send_json({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await socket.send_json({"event": "start", "start": start})
        await socket.receive(timeout=30)  # the greeting, or the end
        return socket.close_code


class TestTheBackendsAnswer:
    @pytest.mark.parametrize(
        "field", ["twilioAccountSid", "twilioAuthToken", "openaiApiKey", "systemPrompt"]
    )
    async def test_a_missing_field_rejects_the_call_and_is_named(self, world, field):
        del world.backend.plan[field]
        assert await post(world, form()) == (200, REJECTED)
        error = await world.told("error")
        assert error["code"] == "call_start_bad_answer"
        assert field in error["message"]
        await nothing_charged(world)

    async def test_a_failing_backend_rejects_the_call(self, world):
        world.backend.status = 500
        assert await post(world, form()) == (200, REJECTED)
        assert (await world.told("error"))["code"] == "call_start_bad_status"
        await nothing_charged(world)

    async def test_a_refusal(self, world):
        world.backend.answer = {"reject": True}
        assert await post(world, form()) == (200, REJECTED)
        world.backend.answer = {"reject": True, "reason": "busy"}
        assert await post(world, form()) == (200, BUSY)
        await world.work()
        assert world.backend.to("error") == []
        await nothing_charged(world)

    async def test_a_refusal_may_be_spoken(self, world):
        message = {"reject": True, "message": "We are closed."}
        world.backend.answer = message | world.backend.credentials
        status, twiml = await post(world, form())
        assert status == 200
        assert twiml.endswith("<Response><Say>We are closed.</Say><Hangup /></Response>")
        await nothing_charged(world)

    async def test_a_transfer_dials_and_costs_nothing_here(self, world):
        world.backend.answer = {"transfer": "+15559876543"} | world.backend.credentials
        fields = form()
        status, twiml = await post(world, fields)
        assert status == 200
        assert twiml.endswith("<Response><Dial>+15559876543</Dial></Response>")
        end = await world.told("end")
        assert (end["endedReason"], end["durationSeconds"]) == ("transferred", 0)
        assert end["costBreakdown"]["totalCost"] == 0

    @pytest.mark.parametrize(
        "answer", [{"transfer": "+15559876543"}, {"reject": True, "message": "We are closed."}]
    )
    async def test_what_costs_money_names_whose_it_is(self, world, answer):
        world.backend.answer = answer
        assert await post(world, form()) == (200, REJECTED)
        error = await world.told("error")
        assert error["code"] == "call_start_bad_answer"
        assert "twilioAccountSid" in error["message"]
        assert "twilioAuthToken" in error["message"]
        await nothing_charged(world)


class TestTheSameCallSid:
    async def test_at_the_same_time_is_one_call(self, world):
        fields = form()
        (first, second) = await _both(post(world, fields), post(world, fields))
        assert first == second
        assert "<Connect" in first[1]
        assert len(world.backend.to("start")) == 1
        assert await in_database(Call.objects.count) == 1

    async def test_a_repetition_gets_the_same_answer(self, world, model):
        async with model():
            ringing = await world.greeted(faults=Faults(answer_lost=frozenset({"voice"})))
            call = await world.hang_up(ringing)
        assert len(world.backend.to("start")) == 1
        assert call.ended_reason == "caller_hangup"
        assert await in_database(UsageRecord.objects.count) == 1

    async def test_after_the_end_nothing_begins(self, world, model, monkeypatch):
        async with model():
            ringing = await world.greeted()
            await world.hang_up(ringing)
            _forget_answers(monkeypatch)
            assert await post(world, form(CallSid=ringing.sid)) == (200, REJECTED)
        assert len(world.backend.to("start")) == 1
        assert await in_database(UsageRecord.objects.count) == 1

    async def test_of_another_accounts_call_gives_nothing_away(self, world, bob, monkeypatch):
        fields = form()
        await post(world, fields)
        _forget_answers(monkeypatch)
        await in_database(
            PhoneNumber.objects.create,
            account=bob,
            phone_number="+15550001111",
            on_call_start_url=f"{world.backend.url}/start",
            on_call_end_url=f"{world.backend.url}/end",
        )
        assert await post(world, {**fields, "To": "+15550001111"}) == (200, REJECTED)

    async def test_another_process_asks_again_while_nobody_has_accepted(self, world):
        fields = form()
        signature = RequestValidator(AUTH_TOKEN).compute_signature(world.phone.voice_url, fields)
        await in_database(
            Call.objects.create,
            account=world.account,
            call_sid=fields["CallSid"],
            direction="inbound",
            status="ringing",
            on_call_start_url=f"{world.backend.url}/start",
            webhook_digest=TwilioForm(QueryDict(urlencode(fields)), "/voice", signature).digest,
        )
        _, twiml = await post(world, fields)
        assert "<Connect" in twiml


def _forget_answers(monkeypatch):
    """Become another process, which does not remember this one's responses."""
    from telephony.voice import webhooks

    monkeypatch.setattr(webhooks, "_answers", {})


async def _both(one, other):

    return await asyncio.gather(one, other)


class TestTheTicket:
    @pytest.mark.parametrize(
        "ticket",
        [
            *(None, "", "x", "a.b", "cmwu.!!!!", "." + "A" * 43 + "=", "\0." + "A" * 43 + "="),
            *("c" + "0" * 24 + ".\0", "c" + "0" * 24 + ".\u00e9"),
        ],
    )
    async def test_what_is_no_ticket_opens_nothing(self, world, model, ticket):
        async with model() as openai:
            ringing = await world.greeted()
            assert await stream(world, ringing.sid, ticket) == 1008
            await world.hang_up(ringing)
        assert len(openai.sessions) == 1

    async def test_a_ticket_opens_once(self, world, model):
        async with model() as openai:
            ringing = await world.greeted()
            ticket = ringing.stream.parameters["ticket"]
            assert await stream(world, ringing.sid, ticket) == 1008
            await world.hang_up(ringing)
            assert await stream(world, ringing.sid, ticket) == 1008
        assert len(openai.sessions) == 1
        assert await in_database(UsageRecord.objects.count) == 1

    async def test_a_ticket_of_another_call_opens_nothing(self, world, model):
        async with model():
            fields = form()
            _, twiml = await post(world, fields)
            ticket = ticket_in(twiml)
            ringing = await world.greeted()
            assert await stream(world, ringing.sid, ticket) == 1008
            await world.hang_up(ringing)

    async def test_a_wrong_key_does_not_spoil_the_call(self, world):
        fields = form()
        _, twiml = await post(world, fields)
        call_id = ticket_in(twiml).partition(".")[0]
        spoiled = f"{call_id}.{'A' * 43}="
        assert await stream(world, fields["CallSid"], spoiled) == 1008
        assert await in_database(SealedPlan.objects.filter(pk=call_id).exists)

    async def test_another_path_is_404(self, world):
        url = f"ws://127.0.0.1:{world.media.port}/other"
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url)
        assert caught.value.status == 404


class TestOurOwnLinks:
    @pytest.mark.parametrize("purpose", ["answer", "status", "stream", "after"])
    async def test_a_forged_token_is_403(self, world, settings, purpose):
        url = f"{settings.ENGINE_URL}/voice/{purpose}/forged:token:x"
        assert (await post(world, form(), url=url))[0] == 403

    async def test_a_token_is_for_one_purpose(self, world, settings):
        fields = form()
        await post(world, fields)
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        token = links.stream_status_url(call.id).rpartition("/")[2]
        url = f"{settings.ENGINE_URL}/voice/after/{token}"
        assert (await post(world, fields, url=url))[0] == 403

    async def test_a_token_is_for_one_call(self, world):
        fields = form()
        await post(world, fields)
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        assert (await post(world, form(), url=links.after_stream_url(call.id)))[0] == 403

    async def test_a_strange_status_changes_nothing(self, world):
        fields = form()
        await post(world, fields)
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        for status in ("queued", "in-progress", "new one", ""):
            changed = {**fields, "CallStatus": status, "StreamEvent": status}
            for url in (links.status_url(call.id), links.stream_status_url(call.id)):
                assert (await post(world, changed, url=url))[0] == 204
        call = await in_database(Call.objects.get, pk=call.pk)
        assert call.ended_at is None
