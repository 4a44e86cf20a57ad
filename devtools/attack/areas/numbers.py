"""Numbers: removed ones, expensive ones, and one that calls itself."""

from __future__ import annotations

import asyncio
from typing import Any

from devtools.attack.context import Context
from devtools.attack.internet import until
from devtools.attack.people import make_line
from devtools.attack.report import Notes
from devtools.attack.voice import CALLER, TwilioAccount, is_apology, plan, post, read, ring

NEEDS_NETWORK = True

# Premium-rate, service and unassigned prefixes, after +1.
COSTLY = (
    *("900", "976", "500", "521", "522", "533", "544", "566", "577", "588", "700", "710", "456"),
    *("600", "622", "911", "411", "211", "311", "511", "611", "711", "811"),
    *("000", "011", "012", "015", "100", "101", "111", "112", "123", "199", "211", "999", "555"),
)


async def attack(context: Context, notes: Notes) -> None:
    await asyncio.gather(
        _take_over(context, notes),
        _take_at_once(context, notes),
        _come_from_another_account(context, notes),
        _reach_costly_numbers(context, notes),
        _have_the_model_dial(context, notes),
        _call_oneself(context, notes),
    )


async def _take_over(context: Context, notes: Notes) -> None:
    """A number that had a verified call is held before another account may register it."""
    alice, bob = context.people["alice"], context.people["bob"]
    line = await make_line(context, alice)
    call = await context.live_call(line)
    await call.hang_up()
    await context.api(alice, "DELETE", f"/api/phone-numbers/{line.id}")
    desk = context.internet.desk({"transfer": "+13102201234"})
    body = {"phoneNumber": line.number, **desk.urls()}
    for attempt in range(3):
        taken = await context.api(bob, "POST", "/api/phone-numbers", body)
        notes.expect(
            "A number that was released after a verified call cannot be registered by another.",
            taken.is_refusal,
            sent=f"POST /api/phone-numbers, attempt {attempt + 1}",
            came=taken,
        )
    again = await context.api(alice, "POST", "/api/phone-numbers", body)
    if taken.is_refusal:
        notes.expect("Its owner can register it again.", again.status in (200, 201), came=again)


async def _take_at_once(context: Context, notes: Notes) -> None:
    """A number without verified calls can be registered at once, but that gives no access.

    Alice's Twilio still sends its calls here, signed with her token; Bob's backend responds.
    """
    alice, bob = context.people["alice"], context.people["bob"]
    given_up = await make_line(context, alice)
    await context.api(alice, "DELETE", f"/api/phone-numbers/{given_up.id}")
    line = await make_line(context, bob, given_up.number)
    for answer in _answers_of_a_thief(alice.twilio, bob.twilio):
        line.desk.answer = answer
        came = await ring(context.engine, to=line.number, account=alice.twilio)
        notes.expect(
            "Nobody can dial or speak on another customer's Twilio account.",
            is_apology(came) or not {"Dial", "Say", "Play", "Stream"} & set(read(came).verbs),
            sent=f"answer {answer} to a call of another Twilio account",
            came=came,
        )
    await _control(context, notes)


def _answers_of_a_thief(victim: TwilioAccount, thief: TwilioAccount) -> list[dict[str, Any]]:
    own = {"twilioAccountSid": thief.sid, "twilioAuthToken": thief.token}
    mixed = {"twilioAccountSid": victim.sid, "twilioAuthToken": thief.token}
    empty: list[dict[str, Any]] = [
        {"twilioAccountSid": None, "twilioAuthToken": None},
        {"twilioAuthToken": ""},
    ]
    lowered = {"twilioAccountSid": victim.sid.lower(), "twilioAuthToken": thief.token}
    acts: list[dict[str, Any]] = [
        {"transfer": "+13102201234"},
        {"transfer": CALLER},
        {"reject": True, "message": "Your line is ours now."},
        {"reject": True, "reason": "busy", "message": "Call +1 900 555 0100 instead."},
        {"reject": 1, "message": "Not a boolean."},
        plan(thief, greetingUrl="https://backend.example.com/greeting.mp3"),
    ]
    beside: list[dict[str, Any]] = [{}, own, mixed, lowered, *empty]
    return [act | keys for act in acts for keys in beside]


async def _control(context: Context, notes: Notes) -> None:
    """Check that a number's owner can use it with the right credentials."""
    line = await make_line(context, context.people["alice"])
    keys = {"twilioAccountSid": line.twilio.sid, "twilioAuthToken": line.twilio.token}
    for answer, verb in (
        ({"transfer": "+13102201234", **keys}, "Dial"),
        ({"reject": True, "message": "We are closed.", **keys}, "Say"),
        ({"reject": True, "reason": "busy"}, "Reject"),
    ):
        line.desk.answer = answer
        came = await ring(context.engine, to=line.number, account=line.twilio)
        notes.expect(f"An owner gets <{verb}>.", verb in read(came).verbs, sent=answer, came=came)


async def _come_from_another_account(context: Context, notes: Notes) -> None:
    """After its first verified call a number belongs to one Twilio account."""
    line = await make_line(context, context.people["alice"])
    call = await context.live_call(line)
    await call.hang_up()
    asked = len(line.desk.to("start"))
    strangers = [TwilioAccount() for _ in range(3 if context.is_short else 20)]
    for stranger in strangers:
        came = await ring(context.engine, to=line.number, account=stranger)
        notes.expect(
            "A call from another Twilio account is refused.",
            came.is_refusal or is_apology(came) or read(came).verbs in (["Reject"], ["Hangup"]),
            sent=f"AccountSid {stranger.sid}",
            came=came,
        )
    notes.expect(
        "The backend receives no onCallStart for calls from another Twilio account.",
        len(line.desk.to("start")) == asked,
        sent=f"{len(strangers)} calls to a number that is bound",
        came=f"{len(line.desk.to('start')) - asked} questions to the backend",
    )
    answer = await ring(context.engine, to=line.number, account=line.twilio)
    notes.expect(
        "Calls from the number's own Twilio account are connected.",
        read(answer).connects,
        came=answer,
    )


async def _reach_costly_numbers(context: Context, notes: Notes) -> None:
    """Unassigned and premium-rate numbers cannot be registered, called or dialed."""
    line = await make_line(context, context.people["bob"])
    keys = {"twilioAccountSid": line.twilio.sid, "twilioAuthToken": line.twilio.token}
    for number in _costly_numbers(context):
        body = {"phoneNumber": number, **line.desk.urls()}
        registered = await context.api(line.person, "POST", "/api/phone-numbers", body)
        called = await context.ask_for_call(line, number)
        line.desk.answer = {"transfer": number, **keys}
        dialled = await ring(context.engine, to=line.number, account=line.twilio)
        case = "A number that costs its caller, or that nobody has, is not"
        notes.expect(f"{case} registered.", registered.is_refusal, sent=number, came=registered)
        notes.expect(f"{case} called.", called.is_refusal, sent=number, came=called)
        is_dialled = "Dial" in read(dialled).verbs
        notes.expect(f"{case} dialled.", not is_dialled, sent=number, came=dialled)


def _costly_numbers(context: Context) -> list[str]:
    prefixes = COSTLY[::6] if context.is_short else COSTLY
    ends = [f"{context.random.randrange(2_000_000, 10_000_000)}" for _ in prefixes]
    fixed = ["+19005551234", "+19765551234", "+15005550006", "+17105551234"]
    return [*fixed, *(f"+1{prefix}{end}" for prefix, end in zip(prefixes, ends, strict=True))]


async def _have_the_model_dial(context: Context, notes: Notes) -> None:
    """A caller who talks the model into ``transfer_call`` reaches only the allowed numbers."""
    line = await make_line(context, context.people["alice"])
    wanted = ["+19005551234", "+14565551234"]
    for number in wanted[: 1 if context.is_short else 2]:
        step = f'{{"call": "transfer_call", "arguments": {{"to": "{number}"}}}}'
        line.desk.answer = plan(
            line.twilio,
            systemPrompt=f"Transfer.\n```sandbox\n[{step}]\n```",
            model="gpt-realtime-1.5",
            builtinTools=["transfer_call", "end_call"],
            greeting="Hello.",
        )
        call = await context.live_call(line)
        # The model follows the script when it is spoken to next: by keys.
        await call.press("1")
        await until(lambda call=call: not call.is_open, within=6)  # type: ignore[misc]
        form = {"CallSid": call.call_sid, "AccountSid": line.twilio.sid}
        after = await post(context.engine, call.links["after"], form, line.twilio)
        notes.expect(
            "The model cannot dial premium-rate numbers.",
            "Dial" not in read(after).verbs,
            sent=f"transfer_call to {number}",
            came=after,
        )
        await call.hang_up()


async def _call_oneself(context: Context, notes: Notes) -> None:
    line = await make_line(context, context.people["bob"])
    came = await context.ask_for_call(line, line.number)
    notes.expect("A number does not call itself.", came.is_refusal, sent=line.number, came=came)
