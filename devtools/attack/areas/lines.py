"""Lines: calls so frequent, or so odd, that nobody else gets through."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from aiohttp import web

from devtools.attack.context import Context
from devtools.attack.internet import until
from devtools.attack.people import Line, make_line
from devtools.attack.report import Notes
from devtools.attack.voice import (
    LiveCall,
    TwilioAccount,
    answer_outbound,
    new_call_sid,
    open_media,
    plan,
    read,
    ring,
    start_message,
)

NEEDS_NETWORK = True

FORGED_RINGS = 60
MOST_CALLS = 50
# A ticket is valid for a minute; the record of an abandoned ring may be closed later.
TICKET_S = 75.0
CLOSED_WITHIN_S = 180.0


async def attack(context: Context, notes: Notes) -> None:
    await _forge_rings(context, notes)
    await asyncio.gather(_repeat_a_webhook(context, notes), _join_a_slow_answer(context, notes))
    if not context.is_short:
        context.later(_abandon_rings(context, notes))


async def _forge_rings(context: Context, notes: Notes) -> None:
    """Anyone can ring a number; that must not use up its owner's concurrent calls."""
    lena = context.people["lena"]
    target, other = await make_line(context, lena), await make_line(context, lena)
    target.desk.answer = _slowly(plan(lena.twilio), seconds=6)
    forgers = [
        ring(
            context.engine,
            to=target.number,
            account=lena.twilio if number % 2 else TwilioAccount(),
            signature=secrets.token_urlsafe(20),
            caller=f"+1415555{number:04}",
        )
        for number in range(FORGED_RINGS)
    ]
    forged = [asyncio.create_task(forger) for forger in forgers]
    await asyncio.sleep(3)
    live = await _live(context, lena)
    notes.expect(
        "Forged rings are not counted as calls.",
        live < MOST_CALLS / 2,
        sent=f"{FORGED_RINGS} rings with signatures of nobody",
        came=f"{live} live calls",
    )
    await _is_reachable(context, notes, other, "during forged rings")
    for answer in await asyncio.gather(*forged):
        verbs = read(answer).verbs
        notes.expect("A forged ring is refused.", "Stream" not in verbs, came=answer)


async def _is_reachable(context: Context, notes: Notes, line: Line, when: str) -> None:
    """An account can answer calls and place calls."""
    sid = new_call_sid()
    answer = await ring(context.second_engine, to=line.number, account=line.twilio, call_sid=sid)
    told = read(answer)
    if notes.expect(
        "Other calls are connected.", told.connects, sent=f"a call {when}", came=answer
    ):
        call = await LiveCall.connect(context.session, line.twilio, sid, told)
        await call.hang_up()
    placed = await context.ask_for_call(line)
    notes.expect(
        "The account can still place calls.",
        placed.status == 201,
        sent=f"an order {when}",
        came=placed,
    )
    if placed.status == 201:
        order = context.internet.order_of(placed.json["callSid"])
        await context.api(line.person, "POST", f"/api/calls/{order['CallSid']}/hangup")
        await answer_outbound(context.second_engine, order, line.twilio)


async def _live(context: Context, person: Any) -> int:
    answer = await context.api(person, "GET", "/api/calls?live=true&limit=100")
    return len(answer.json["calls"])


def _slowly(answer: dict[str, Any], *, seconds: float) -> Any:
    async def handler(_request: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        return web.json_response(answer)

    return handler


async def _repeat_a_webhook(context: Context, notes: Notes) -> None:
    """Twilio's retry gets the first response; a forged retry does not."""
    line = await make_line(context, context.people["alice"])
    other = await make_line(context, context.people["bob"])
    sid = new_call_sid()
    first = await ring(context.engine, to=line.number, account=line.twilio, call_sid=sid)
    told = read(first)
    for engine in (context.engine, context.second_engine):
        for sent, options in _look_alikes(line, other):
            answer = await ring(engine, **{"to": line.number, "call_sid": sid, **options})
            notes.expect(
                "A request with another signature does not get the first response.",
                not read(answer).connects and (not told.ticket or told.ticket not in answer.text),
                sent=f"the CallSid again, {sent}",
                came=answer,
            )
    again = await ring(context.engine, to=line.number, account=line.twilio, call_sid=sid)
    notes.expect("Twilio's retry gets the same response.", again.body == first.body, came=again)
    call = await context.connected(line, sid, first)
    await asyncio.sleep(1.5)
    notes.expect("The imitated call continues.", call.is_open, sent="14 imitations")
    await call.hang_up()


def _look_alikes(line: Line, other: Line) -> list[tuple[str, dict[str, Any]]]:
    alice, bob = line.twilio, other.twilio
    return [
        ("with another signature", {"account": alice, "signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}),
        ("signed by another account", {"account": alice, "signature": bob.sign("x", {})}),
        ("without a signature", {"account": alice, "signature": ""}),
        ("for another AccountSid", {"account": TwilioAccount(alice.sid[:-1] + "0", bob.token)}),
        ("of Bob's account", {"account": bob}),
        ("to Bob's number", {"account": alice, "to": other.number}),
        ("to Bob's number, from his account", {"account": bob, "to": other.number}),
    ]


async def _join_a_slow_answer(context: Context, notes: Notes) -> None:
    """While the backend thinks, a CallSid alone gives no access either."""
    line = await make_line(context, context.people["alice"])
    line.desk.answer = _slowly(plan(line.twilio), seconds=3)
    sid = new_call_sid()
    real = asyncio.create_task(
        ring(context.engine, to=line.number, account=line.twilio, call_sid=sid)
    )
    await until(lambda: line.desk.to("start"), within=5)
    forged = await ring(
        context.engine, to=line.number, account=line.twilio, call_sid=sid, signature="AAAA"
    )
    notes.expect(
        "Nobody joins a call while its backend thinks.",
        not read(forged).connects,
        sent="the CallSid of a call that is being answered, with another signature",
        came=forged,
    )
    answer = await real
    connects = read(answer).connects
    if notes.expect("The call itself is connected.", connects, came=answer):
        call = await context.connected(line, sid, answer)
        await call.hang_up()


async def _abandon_rings(context: Context, notes: Notes) -> None:
    """A caller who hangs up before the stream opens frees the place when the ticket expires."""
    person = context.people["lena"]
    line = await make_line(context, person)
    began = time.monotonic()
    answers = await asyncio.gather(
        *(ring(context.engine, to=line.number, account=line.twilio) for _ in range(MOST_CALLS))
    )
    accepted = [answer for answer in answers if read(answer).connects]
    await asyncio.sleep(TICKET_S - (time.monotonic() - began))
    await _is_reachable(
        context, notes, line, f"{TICKET_S:.0f} s after {len(accepted)} abandoned rings"
    )
    old = read(accepted[-1]).ticket if accepted else ""
    socket = await open_media(context.session, line.twilio)
    await socket.send_json(start_message(line.twilio, new_call_sid(), old))
    await socket.close()
    live = MOST_CALLS
    while live > 2 and time.monotonic() - began < CLOSED_WITHIN_S:
        live = await _live(context, person)
        await asyncio.sleep(5)
    notes.expect(
        "Abandoned rings are closed.",
        live <= 2,
        sent=f"{len(accepted)} rings whose stream never opened",
        came=f"{live} live calls after {time.monotonic() - began:.0f} s",
    )
