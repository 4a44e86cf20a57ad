"""More calls at once than an account may have, and abandoned rings."""

from __future__ import annotations

import asyncio

from devtools.attack.people import Line, make_line
from devtools.attack.voice import answer_outbound, new_call_sid, read, ring
from devtools.attack.web import Answer
from devtools.chaos.invariants import check
from devtools.chaos.report import Notes
from devtools.chaos.run import SETTINGS
from devtools.chaos.system import System
from devtools.chaos.traffic import ENGINES, Customer, Placed
from devtools.chaos.waiting import seconds_until

KILLS = ()
MOST = int(SETTINGS["MAX_CONCURRENT_CALLS"])
_RINGS, _RINGS_IN_SHORT = 200, 60
_FREE_WITHIN_S = 3.0
# The lifetime of a ticket, and a margin.
_TICKET_S = 75.0
_PLACES = """
    SELECT count(*) FROM telephony_call AS call JOIN accounts_account AS account
        ON account.id = account_id
    WHERE email = %s AND ended_at IS NULL
        AND (answered_at IS NOT NULL
            OR (direction = 'outbound' OR accepted_at IS NOT NULL) AND held_until > now())
"""


async def run(system: System, notes: Notes) -> None:
    (customer,) = await system.traffic.join(1)
    placed = await _rush(system, notes, customer)
    await _one_goes_one_comes(system, notes, customer, placed)
    await system.traffic.hang_up(each for each in customer.calls if each.call.is_open)
    await check(system, notes, customer.calls)
    if not system.is_short:
        await _abandon(system, notes)


async def _rush(system: System, notes: Notes, customer: Customer) -> list[Placed]:
    """Ring several numbers and place outbound calls, all at once."""
    count = _RINGS_IN_SHORT if system.is_short else _RINGS
    lines = [customer.line]
    for _ in range(4):
        line = await make_line(system.context, customer.person)
        line.desk.answer = customer.line.desk.answer
        line.person.twilio = customer.person.twilio
        lines.append(line)
    outwards = count // 4
    watching = asyncio.create_task(_most_places(system, customer))
    sids = [new_call_sid() for _ in range(count - outwards)]
    rings = [_ring(system, lines[n % len(lines)], sid, n) for n, sid in enumerate(sids)]
    orders = [system.context.ask_for_call(customer.line) for _ in range(outwards)]
    answers = await asyncio.gather(*rings, *orders)
    placed = await _connect(system, customer, sids, answers)
    await asyncio.sleep(1)
    watching.cancel()
    most = await asyncio.gather(watching, return_exceptions=True)
    live = sum(each.call.is_open for each in placed)
    notes.measure(f"calls of {count} at a limit of {MOST}", f"{live} live, {len(placed)} taken")
    notes.measure("peak number of places in use, in the database", most[0])
    notes.expect(
        "No more calls are live than the limit.", live <= MOST, sent=f"{count} at once", came=live
    )
    notes.expect("The limit can be reached.", live == MOST, sent=f"{count} at once", came=live)
    for answer in answers:
        notes.expect("A refused caller gets a response.", not answer.is_failure, came=answer)
    return placed


async def _ring(system: System, line: Line, sid: str, number: int) -> Answer:
    engine = system.traffic.proxy.engine(list(ENGINES)[number % 2])
    return await ring(engine, to=line.number, account=line.twilio, call_sid=sid)


async def _connect(
    system: System, customer: Customer, sids: list[str], answers: list[Answer]
) -> list[Placed]:
    """Connect every accepted call; callees answer at once."""
    placed = [
        await system.traffic.connect(customer, sid, answer)
        for sid, answer in zip(sids, answers, strict=False)
    ]
    for ordered in answers[len(sids) :]:
        if ordered.status == 201:
            order = system.context.internet.order_of(ordered.json["callSid"])
            answer = await answer_outbound(system.traffic.proxy, order, customer.line.twilio)
            placed.append(await system.traffic.connect(customer, order["CallSid"], answer))
    return [each for each in placed if each is not None]


async def _most_places(system: System, customer: Customer) -> int:
    most = 0
    try:
        while True:
            most = max(most, int((await system.query(_PLACES, customer.person.email))[0][0]))
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return most


async def _one_goes_one_comes(
    system: System, notes: Notes, customer: Customer, placed: list[Placed]
) -> None:
    answer = await _ring(system, customer.line, new_call_sid(), 0)
    notes.expect("One more is refused.", not read(answer).connects, came=answer)
    await system.traffic.hang_up(placed[:1])

    async def is_let_in() -> bool:
        sid = new_call_sid()
        answer = await _ring(system, customer.line, sid, 1)
        return await system.traffic.connect(customer, sid, answer) is not None

    took = await seconds_until(is_let_in, within=20)
    notes.within("a place is free again, after a caller hung up", took, _FREE_WITHIN_S)


async def _abandon(system: System, notes: Notes) -> None:
    """A caller who hangs up before the stream opens frees the place when the ticket expires."""
    (customer,) = await system.traffic.join(1)
    answers = await asyncio.gather(
        *(_ring(system, customer.line, new_call_sid(), n) for n in range(MOST + 5))
    )
    taken = sum(read(answer).connects for answer in answers)
    notes.expect(
        "Rings that wait for their audio count towards the limit.",
        taken == MOST,
        sent=len(answers),
        came=taken,
    )

    async def is_let_in() -> bool:
        sid = new_call_sid()
        answer = await _ring(system, customer.line, sid, 0)
        return await system.traffic.connect(customer, sid, answer) is not None

    took = await seconds_until(is_let_in, within=_TICKET_S + 30)
    notes.within(f"a place is free again, after {taken} abandoned rings", took, _TICKET_S)
    await system.traffic.hang_up(customer.calls)
    await check(system, notes, customer.calls)
