"""Free minutes: a customer ends the record of a call that continues, and with it the bill.

Customers see the signed links of their own calls, and know the token that Twilio signs with.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL

from devtools.attack.context import Context
from devtools.attack.internet import until
from devtools.attack.people import Line, make_line
from devtools.attack.report import Notes
from devtools.attack.voice import (
    LiveCall,
    TwilioAccount,
    answer_outbound,
    open_media,
    path_of,
    post,
    read,
    ring,
    start_message,
)

NEEDS_NETWORK = True

# A call that Twilio reports as ended is ended 8 s later, by a job that runs every 5 s.
WAIT_S = 15.0
UNANSWERED = ("busy", "failed", "no-answer", "canceled")
_READY_WITHIN_S = 2.0
_FRAMES = {"frame_every": 0.5}


@dataclass(frozen=True, slots=True)
class Forgery:
    """A forged request during a call: its link, its content and its signature."""

    link: str
    fields: dict[str, str]
    signed: str  # not at all, wrongly, or with the customer's own token

    def __str__(self) -> str:
        told = "&".join(f"{name}={value}" for name, value in self.fields.items())
        return f"POST /voice/{self.link}/… {told} ({self.signed} signature)"

    @property
    def may_end_the_call(self) -> bool:
        return self.signed == "own" and self.fields.get("CallStatus") not in UNANSWERED


Tactic = Sequence[Forgery]


async def attack(context: Context, notes: Notes) -> None:
    lines = [await make_line(context, context.people[name]) for name in ("mona", "max")]
    await asyncio.gather(
        *(_play(context, notes, lines[number % 2], tactic) for number, tactic in _tactics(context)),
        _answer_twice(context, notes, lines[0]),
        _answer_when_suspended(context, notes),
        _delete_during_calls(context, notes),
    )


def _tactics(context: Context) -> list[tuple[int, Tactic]]:
    """Return each forgery alone, and random sequences of them."""
    signatures = ("none", "wrong", "own")
    stream = [{"StreamEvent": f"stream-{event}"} for event in ("stopped", "error", "started")]
    statuses = (*UNANSWERED, "completed", "ringing")
    single = [
        *(("stream", fields) for fields in stream),
        ("after", {}),
        ("after", {"CallStatus": "completed"}),
        *(("status", {"CallStatus": status}) for status in statuses),
    ]
    forgeries = [Forgery(link, fields, by) for link, fields in single for by in signatures]
    tactics: list[Tactic] = [[forgery] for forgery in forgeries]
    tactics += [
        context.random.sample([each for each in forgeries if each.signed == by], 6)
        for by in ("none", "wrong")
        for _ in range(3)
    ]
    if context.is_short:
        chosen = {"stream-stopped", "busy"}
        few = [t for t in tactics if len(t) == 1 and chosen & set(t[0].fields.values())]
        tactics = [*few, *tactics[-1:]]
    return list(enumerate(tactics))


async def _play(context: Context, notes: Notes, line: Line, tactic: Tactic) -> None:
    """Send the forgeries during a call, and compare its record with its socket."""
    call, links = await _any_call(context, line, tactic)
    await asyncio.sleep(1)
    for forgery in tactic:
        await _send(context, call, links, forgery)
    await asyncio.sleep(WAIT_S)
    told = await context.call(line.person, call.call_sid)
    is_live, sent = told.get("endedAt") is None, ", ".join(map(str, tactic))
    state = f"after {call.seconds:.0f} s {told.get('status')}, {told.get('durationSeconds')} s"
    notes.expect(
        "A call is live for as long as its socket is open.",
        is_live == call.is_open,
        sent=sent,
        came=f"{state}; the socket is {'open' if call.is_open else 'closed'}",
    )
    if not any(forgery.may_end_the_call for forgery in tactic):
        notes.expect(
            "Only Twilio can end a call, and only with a possible status.",
            is_live and call.is_open,
            sent=sent,
            came=state,
        )
    await call.hang_up()
    await _compare(context, notes, line, call, sent)
    await _send_late(context, notes, line, call, links, tactic)


async def _any_call(
    context: Context, line: Line, tactic: Tactic
) -> tuple[LiveCall, dict[str, str]]:
    """Return an inbound call, or an outbound one if a status link is needed."""
    if all(forgery.link != "status" for forgery in tactic):
        call = await context.live_call(line, **_FRAMES)
        return call, call.links
    call, order = await context.placed_call(line, **_FRAMES)
    return call, {**call.links, "status": path_of(order["StatusCallback"])}


async def _send(context: Context, call: LiveCall, links: dict[str, str], forgery: Forgery) -> None:
    form = {"CallSid": call.call_sid, "AccountSid": call.account.sid, **forgery.fields}
    signer = {"own": call.account, "wrong": TwilioAccount()}.get(forgery.signed)
    await post(context.engine, links[forgery.link], form, signer)


async def _compare(context: Context, notes: Notes, line: Line, call: LiveCall, sent: str) -> None:
    """The record and the bill have the minutes of the socket."""
    ended = await _until_ended(context, line, call)
    seconds = ended.get("durationSeconds", -1)
    notes.expect(
        "A call's seconds are its socket's.",
        -1 <= seconds - call.seconds <= 2,
        sent=sent,
        came=f"{seconds} s were recorded, and {call.seconds:.1f} s talked",
    )
    charged = await _charged(context, call.call_sid)
    notes.expect(
        "The time talked is charged.",
        _is_for(charged, call.seconds),
        sent=sent,
        came=f"{charged} minutes were charged, and {call.seconds:.1f} s talked",
    )


async def _send_late(
    context: Context,
    notes: Notes,
    line: Line,
    call: LiveCall,
    links: dict[str, str],
    tactic: Tactic,
) -> None:
    """Requests after the end of a call change nothing."""
    before = await context.call(line.person, call.call_sid)
    statuses = (Forgery("status", {"CallStatus": status}, "own") for status in UNANSWERED)
    for forgery in (*tactic, *(statuses if "status" in links else ())):
        await _send(context, call, links, forgery)
        await _send(context, call, links, forgery)
    after = await context.call(line.person, call.call_sid)
    names = ("status", "endedReason", "endedAt", "durationSeconds", "costBreakdown")
    changed = [name for name in names if before.get(name) != after.get(name)]
    notes.expect("An ended call stays unchanged.", not changed, sent=tactic, came=changed)


async def _until_ended(context: Context, line: Line, call: LiveCall) -> dict[str, Any]:
    for _ in range(20):
        told = await context.call(line.person, call.call_sid)
        if told.get("endedAt"):
            return told
        await asyncio.sleep(0.5)
    return {}


def _is_for(minutes: int | None, seconds: float) -> bool:
    """Return True if the minutes are those of that time, or of a little less.

    Minutes begin when the model is ready.
    """
    return minutes in {math.ceil(seconds / 60), math.ceil((seconds - _READY_WITHIN_S) / 60)}


async def _charged(context: Context, call_sid: str) -> int | None:
    """Return the minutes that were charged, or None before the usage is recorded."""
    rows = await context.query(
        "SELECT minutes FROM usage_usagerecord WHERE call_sid = %s", call_sid
    )
    return int(rows[0][0]) if rows else None


async def _charged_soon(context: Context, call_sid: str) -> int | None:
    """Wait until an engine has recorded the usage of a call."""
    for _ in range(20):
        if (charged := await _charged(context, call_sid)) is not None:
            return charged
        await asyncio.sleep(0.5)
    return None


async def _answer_twice(context: Context, notes: Notes, line: Line) -> None:
    """A link to TwiML admits one stream, however often it is requested."""
    call, order = await context.placed_call(line, **_FRAMES)
    for engine in (context.engine, context.second_engine, context.engine):
        told = read(await answer_outbound(engine, order, line.twilio))
        notes.expect(
            "A replayed response opens no second stream.",
            not told.connects or not await _opens(context, line, call.call_sid, told.ticket),
            sent="POST /voice/answer/… again",
            came=told.verbs,
        )
    await call.hang_up()


async def _opens(context: Context, line: Line, call_sid: str, ticket: str) -> bool:
    """Return True if a media socket stays open with this ticket."""
    socket = await open_media(context.session, line.twilio)
    await socket.send_json(start_message(line.twilio, call_sid, ticket))
    try:
        async with asyncio.timeout(3):
            async for _ in socket:
                pass
    except TimeoutError:
        return True
    finally:
        await socket.close()
    return False


async def _answer_when_suspended(context: Context, notes: Notes) -> None:
    """A suspended account's ringing call is not connected."""
    erin = context.people["erin"]
    line = await make_line(context, erin)
    for change, undo in (
        ("suspended_by_operator = true", "suspended_by_operator = false"),
        ("status = 'INACTIVE'", "status = 'ACTIVE'"),
        ("status = 'SUSPENDED'", "status = 'ACTIVE'"),
        ("is_active = false", "is_active = true"),
    ):
        order = await context.order(line)
        await _update(context, change, erin.id)
        answer = await answer_outbound(context.engine, order, line.twilio)
        inbound = await ring(context.engine, to=line.number, account=line.twilio)
        await _update(context, undo, erin.id)
        for came, sent in ((answer, "a ringing outbound call"), (inbound, "an inbound call")):
            notes.expect(
                "A call of an account that may not make calls is not connected.",
                not {"Stream", "Dial"} & set(read(came).verbs),
                sent=f"{sent} is answered with {change}",
                came=came,
            )


async def _update(context: Context, change: str, account_id: str) -> None:
    query = SQL("UPDATE accounts_account SET {} WHERE id = %s").format(SQL(change))
    await context.execute(query, account_id)


async def _delete_during_calls(context: Context, notes: Notes) -> None:
    """A deleted account pays for its calls in progress: they end before the subscription."""
    dora = context.people["dora"]
    line = await make_line(context, dora)
    calls = [await context.live_call(line, **_FRAMES) for _ in range(3)]
    sids = [call.call_sid for call in calls]
    cancellations: list[tuple[int, int]] = []

    def look(method: str, path: str) -> None:
        if method == "DELETE" and path == "/v1/subscriptions/sub_dora":
            cancellations.append(_live_and_metered(context, sids))

    context.internet.on_stripe = look
    await asyncio.sleep(3)
    browser = await context.browser(dora)
    form = {"email": dora.email, "current_password": dora.password}
    deleted = await browser.post("/dashboard/settings/delete", form)
    notes.expect("An account can be deleted during calls.", deleted.status == 302, came=deleted)
    is_over = await until(lambda: not any(call.is_open for call in calls), within=20)
    notes.expect("Calls of a deleted account are hung up.", is_over, sent="3 calls in progress")
    await until(lambda: cancellations, within=30)
    for live, metered in cancellations[:1]:
        notes.expect(
            "A subscription ends after its calls, with their minutes metered.",
            live == 0 and metered == len(calls),
            sent="the account is deleted with 3 calls in progress",
            came=f"cancelled with {live} calls live, and the minutes of {metered} written down",
        )
    for call in calls:
        charged = await _charged_soon(context, call.call_sid)
        notes.expect(
            "Minutes of a deleted account are kept.",
            _is_for(charged, call.seconds),
            sent=f"{call.seconds:.1f} s talked",
            came=f"{charged} minutes",
        )
        await call.hang_up()


def _live_and_metered(context: Context, sids: list[str]) -> tuple[int, int]:
    url = context.product.environment["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        live = "SELECT count(*) FROM telephony_call WHERE call_sid = ANY(%s) AND ended_at IS NULL"
        metered = "SELECT count(*) FROM billing_meterevent WHERE identifier = ANY(%s)"
        counts = [connection.execute(query, [sids]).fetchone() for query in (live, metered)]
    return tuple(int(row[0]) for row in counts if row)  # type: ignore[return-value]
