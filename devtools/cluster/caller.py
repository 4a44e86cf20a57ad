"""A process full of callers, who say what they hear back: the load of a cluster.

It keeps a number of calls in progress through the public addresses, as Twilio would: a webhook, the
media socket, 50 frames a second, and at the end the stream's status. It reads commands from its
standard input and reports on its standard output, one JSON object a line each, and exits when its
input is closed. All times are of the machine's monotonic clock, in seconds.

Commands: ``{"hold": calls, "a_second": new calls}``, and ``{"end": true}``: no new calls, and those
in progress hang up.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvloop
from picows import WSError, WSFrame, WSTransport, ws_connect

from devtools.attack.voice import (
    MEDIA_URL,
    TwilioAccount,
    Twiml,
    new_call_sid,
    post,
    read,
    ring,
)
from devtools.attack.web import PublicClient
from devtools.bench import frames, load

_TURN_S = load.FRAME_S / load.TURNS
_NEVER = 1 << 62
# Numbers of calls in this process; another one's begin elsewhere.
_FIRST_CALL = 1000
_OPENED_WITHIN_S, _CLOSED_WITHIN_S = 10.0, 5.0
# With the run's own authority, which is in SSL_CERT_FILE.
_TRUSTED = ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is called, and the Twilio account that it belongs to."""

    number: str
    account: TwilioAccount


class Caller(load.Caller):
    """One call: its frames, and when it began and ended."""

    def __init__(self, call: int, start: dict[str, Any]) -> None:
        super().__init__(call, load.Tally(window=(0, _NEVER)))
        self._start = start
        self.opened = self.closed = 0.0
        self.has_hung_up = False
        self.is_gone = asyncio.Event()
        self.hears_now = asyncio.Event()  # itself, on its present stream

    @property
    def tally_of_call(self) -> load.Tally:
        return self._tally

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.opened = self.opened or time.monotonic()
        transport.send(load.TEXT, frames.connected())
        transport.send(load.TEXT, frames.dumps(self._start))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self.hears_itself.is_set():
            self._heard = load.now()  # what it does not hear before its first word is no gap
        super().on_ws_frame(transport, frame)
        if frame.payload_size == self._size:
            self.hears_now.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closed = self.closed or time.monotonic()
        self.is_gone.set()

    def move(self, start: dict[str, Any]) -> None:
        """Get ready for a stream to another engine."""
        self._start, self.closed = start, 0.0
        self.is_gone.clear()
        self.hears_now.clear()

    def hang_up(self, call_sid: str) -> None:
        self.has_hung_up, self.closed = True, time.monotonic()
        stop = {"event": "stop", "stop": {"callSid": call_sid}}
        self.transport.send(load.TEXT, frames.dumps(stop))
        self.transport.disconnect()


@dataclass
class Load:
    numbers: list[Number]
    lasts: tuple[float, float]
    session: aiohttp.ClientSession
    wanted: int = 0
    a_second: float = 1.0
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    turns: list[set[Caller]] = field(default_factory=lambda: [set() for _ in range(load.TURNS)])
    round_trips: Counter[int] = field(default_factory=Counter)  # in tenths of a millisecond

    async def place_on(self) -> None:
        """Place calls while there are fewer than wanted."""
        for number in itertools.count(_FIRST_CALL):
            await asyncio.sleep(1 / self.a_second)
            if len(self.calls) < self.wanted and not self.ending.is_set():
                task = asyncio.create_task(self._call(number, random.choice(self.numbers)))  # noqa: S311 (a load)
                self.calls.add(task)
                task.add_done_callback(self.calls.discard)

    async def _call(self, call: int, called: Number) -> None:
        sid, client = new_call_sid(), PublicClient(self.session, "engine.example.com")
        began = time.monotonic()
        answer = await ring(client, to=called.number, account=called.account, call_sid=sid)
        if answer.status == 0:  # no response: Twilio tries again, once
            answer = await ring(client, to=called.number, account=called.account, call_sid=sid)
        told = read(answer)
        tell(
            "rang",
            sid=sid,
            number=called.number,
            at=began,
            seconds=time.monotonic() - began,
            connects=told.connects,
            said=str(answer)[:200] if not told.connects else "",
        )
        if not told.connects:
            return
        caller = Caller(call, _start(call, called.account, sid, told.ticket))
        turn = self.turns[call % load.TURNS]
        try:
            await self._connect(caller, called.account)
        except (OSError, WSError, TimeoutError) as error:
            tell("unconnected", sid=sid, why=repr(error))
            return
        tell("opened", sid=sid, at=caller.opened)
        turn.add(caller)
        until = asyncio.get_running_loop().time() + random.uniform(*self.lasts)  # noqa: S311 (a load)
        try:
            await self._last(caller, sid, until)
            while (next_ := await self._after(client, caller, called, sid, told)).connects:
                told = next_
                caller.move(_start(call, called.account, sid, told.ticket))
                await self._connect(caller, called.account)
                tell("moved", sid=sid, at=time.monotonic())
                await self._last(caller, sid, until)
        except (OSError, WSError, TimeoutError) as error:
            tell("unconnected", sid=sid, why=repr(error))
        finally:
            turn.discard(caller)
        self._report(caller, sid)

    async def _connect(self, caller: Caller, account: TwilioAccount) -> None:
        await ws_connect(
            lambda: caller,
            MEDIA_URL,
            ssl_context=_TRUSTED,
            websocket_handshake_timeout=_OPENED_WITHIN_S,
            extra_headers={"X-Twilio-Signature": account.sign(MEDIA_URL, {})},
        )

    async def _last(self, caller: Caller, sid: str, until: float) -> None:
        """Return when the call is over: its time has come, all end, or the product closes it."""
        seconds = until - asyncio.get_running_loop().time()
        await _first_of(max(0.0, seconds), caller.is_gone, self.ending)
        # Nobody hangs up before they hear a word, at the beginning or after a move: the call's
        # record would end where the last engine gave it up.
        await _first_of(_OPENED_WITHIN_S, caller.is_gone, caller.hears_now)
        if not caller.is_gone.is_set():
            caller.hang_up(sid)
            await _first_of(_CLOSED_WITHIN_S, caller.is_gone)

    async def _after(
        self, client: PublicClient, caller: Caller, called: Number, sid: str, told: Twiml
    ) -> Twiml:
        """Tell the product what Twilio tells it when the stream has ended; return what is next."""
        form = {"CallSid": sid, "AccountSid": called.account.sid}
        event = "stream-stopped" if caller.has_hung_up else "stream-error"
        stopped = {**form, "StreamSid": frames.stream_sid(caller.call), "StreamEvent": event}
        await post(client, told.links["stream"], stopped, called.account)
        status = "completed" if caller.has_hung_up else "in-progress"
        form["CallStatus"] = status
        return read(await post(client, told.links["after"], form, called.account))

    def _report(self, caller: Caller, sid: str) -> None:
        """Tell the cluster what became of the call."""
        tally = caller.tally_of_call
        self.round_trips.update(trip // 100 for trip in tally.round_trips)
        tell(
            "closed",
            sid=sid,
            opened=caller.opened,
            closed=caller.closed,
            hung_up=caller.has_hung_up,
            heard=caller.hears_itself.is_set(),
            gap=tally.longest_gap / 1e6,
            damaged=tally.damaged + tally.out_of_order,
        )

    async def speak(self) -> None:
        """Send every caller's frames. Deadlines are absolute, so delays are caught up."""
        begin = load.now()
        for tick in itertools.count():
            due = begin + tick * round(_TURN_S * 1e6)
            await asyncio.sleep(max(0, due - load.now()) / 1e6)
            number, turn = divmod(tick, load.TURNS)
            head = frames.media_head(number)
            for caller in self.turns[turn]:
                if not caller.closed:
                    caller.transport.send(load.TEXT, b"%b%016d%b" % (head, load.now(), caller.tail))

    async def obey(self) -> None:
        """Carry out commands until the input is closed."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            if "end" in command:
                self.wanted = 0
                self.ending.set()
                await asyncio.gather(*self.calls)
                tell("over", round_trips=self.round_trips)
                self.round_trips.clear()
            else:
                self.wanted, self.a_second = command["hold"], command["a_second"]
                self.ending.clear()


async def _first_of(within: float, *events: asyncio.Event) -> None:
    """Wait until one of these happens, for some seconds at most."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()


def tell(event: str, **what: Any) -> None:
    print(json.dumps({"event": event, **what}), flush=True)


def _start(call: int, account: TwilioAccount, call_sid: str, ticket: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(frames.start(call))
    message["start"] |= {
        "accountSid": account.sid,
        "callSid": call_sid,
        "customParameters": {"ticket": ticket},
    }
    return message


async def _run(told: dict[str, Any]) -> None:
    numbers = [Number(number, TwilioAccount(sid, token)) for number, sid, token in told["numbers"]]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        load_of_calls = Load(numbers, tuple(told["lasts"]), session)
        tasks = [
            asyncio.create_task(load_of_calls.place_on()),
            asyncio.create_task(load_of_calls.speak()),
        ]
        await load_of_calls.obey()
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(_run(json.loads(sys.argv[1])))
