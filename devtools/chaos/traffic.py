"""Simulated customers and their calls, with everything known about them from outside.

The model drives a conversation by itself: in each turn it says the number of the turn, and calls a
tool of the backend, whose result leads to the next turn. So the backend knows every turn, and can
tell what a transcript lacks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from devtools.attack.context import Context, token_of
from devtools.attack.people import Line, Person, make_line, register, set_up_accounts
from devtools.attack.product import ENGINE, MEDIA, SECOND_ENGINE, SECOND_MEDIA
from devtools.attack.voice import (
    CALLER,
    LiveCall,
    TwilioAccount,
    Twiml,
    answer_outbound,
    media_message,
    new_call_sid,
    open_media,
    plan,
    post,
    read,
    ring,
    start_message,
)
from devtools.attack.web import Answer, Client
from devtools.chaos.waiting import longest_gap, until
from devtools.processes import Failed
from sandbox import speech

#: The ports of an engine's process: HTTP and media.
ENGINES = {"engine": (ENGINE, MEDIA), "engine-2": (SECOND_ENGINE, SECOND_MEDIA)}

# The ways in which opening a socket fails if nobody accepts it.
NOT_TAKEN = (OSError, aiohttp.ClientError, TimeoutError)

_CHUNK_S = 0.1  # of audio per message, so that a hundred callers can talk on one machine
_GO = b"".join(speech.frames("go"))
_TURN_EVERY_MS = 1500
_MOST_TURNS = 400
_AT_ONCE = 10  # calls that ring at the same moment


def _chunks(audio: bytes) -> list[str]:
    size = round(_CHUNK_S * speech.SAMPLE_RATE)
    padded = audio.ljust(-(-len(audio) // size) * size, b"\xff")
    pieces = (padded[at : at + size] for at in range(0, len(padded), size))
    return [
        orjson.dumps(media_message(base64.b64encode(piece).decode())).decode() for piece in pieces
    ]


_SPOKEN = _chunks(_GO)
# Chunks between two "go"s while nothing is heard: a shorter pause might interrupt the response.
_SAY_IT_EVERY = 100
_QUIET = _chunks(b"\xff" * 160)[0]


@dataclass
class TalkingCall(LiveCall):
    """A call in which the caller says one word and listens; ``heard`` has the times of audio."""

    heard: list[float] = field(default_factory=list)

    @classmethod
    def on(
        cls,
        socket: aiohttp.ClientWebSocketResponse,
        account: TwilioAccount,
        call_sid: str,
        told: Twiml,
    ) -> TalkingCall:
        """Take a socket on which ``start`` has just been sent."""
        call = cls(account, call_sid, dict(told.links), socket)
        call._tasks = [asyncio.create_task(call._talk()), asyncio.create_task(call._listen())]
        return call

    async def _talk(self) -> None:
        due, chunk = time.monotonic(), 0
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            while self.is_open:
                is_time = chunk % _SAY_IT_EVERY == 0 and not self.heard
                for message in _SPOKEN if is_time else [_QUIET]:
                    chunk += 1
                    await self.socket.send_str(message)
                    due += _CHUNK_S
                    await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            async for message in self.socket:
                start = str(message.data)[:24]
                if '"media"' in start:
                    self.heard.append(time.monotonic())
                elif '"mark"' in start:
                    await self.socket.send_str(message.data)
        self.closed = self.closed or time.monotonic()

    def longest_gap(self, since: float, until: float) -> float:
        """Return the longest silence within a period."""
        return longest_gap(self.heard, since, until)


@dataclass
class Customer:
    person: Person
    line: Line
    calls: list[Placed] = field(default_factory=list)

    @property
    def live(self) -> int:
        return sum(placed.call.is_open for placed in self.calls)


@dataclass
class Placed:
    """A connected call, as the phone network sees it."""

    customer: Customer
    call_sid: str
    engine: str  # the process that has its socket
    call: TalkingCall
    killed_at: float | None = None  # when its engine was killed; the caller notices a little later
    is_told: bool = True  # whether Twilio reports the end of the stream
    is_let_in: bool = True

    @property
    def turns(self) -> list[int]:
        """Return the turns that asked the backend for the next one, in order."""
        requests = self.customer.line.desk.to("tool")
        mine = (each for each in requests if each["callSid"] == self.call_sid)
        asked = (each["arguments"].get("turn") for each in mine)
        return sorted({int(turn) for turn in asked if turn is not None})


class Proxy(Client):
    """The proxy in front of the engines: if one refuses a request, it tries another one."""

    def __init__(self, context: Context) -> None:
        super().__init__(context.session, ENGINE, context.engine.host)
        self._context = context
        self._clients = {
            name: Client(context.session, port, context.engine.host)
            for name, (port, _) in ENGINES.items()
        }

    def engine(self, name: str) -> Client:
        return self._clients[name]

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        answer = None
        for name in self._in_any_order():
            answer = await self._clients[name].ask(method, path, **options)
            timed_out = answer.body.startswith(b"TimeoutError")
            if answer.status not in (0, 502, 503) or timed_out:
                break
        if answer is None:
            raise Failed("There is no engine.")
        return answer

    async def open_media(
        self, account: TwilioAccount, first: str = ""
    ) -> tuple[str, aiohttp.ClientWebSocketResponse]:
        """Open a media socket at any engine, or at another one if it refuses; return its name too.

        Raises one of ``NOT_TAKEN``.
        """
        refusal: Exception = Failed("There is no engine.")
        for name in self._in_any_order(first):
            try:
                port = ENGINES[name][1]
                return name, await open_media(self._context.session, account, port=port)
            except NOT_TAKEN as error:
                refusal = error
        raise refusal

    def _in_any_order(self, first: str = "") -> list[str]:
        names = self._context.random.sample(list(ENGINES), len(ENGINES))
        return sorted(names, key=lambda name: name != first)


@dataclass
class Traffic:
    context: Context
    proxy: Proxy
    customers: list[Customer] = dataclasses.field(default_factory=list)  # with most of the calls
    probers: list[Customer] = dataclasses.field(default_factory=list)  # only for probes
    all: list[Customer] = dataclasses.field(default_factory=list)
    placed: list[Placed] = dataclasses.field(default_factory=list)

    # Customers

    async def sign_up(self, count: int) -> list[Person]:
        """Register people, as Stripe customers who have not paid yet."""
        people = [Person(f"c{secrets.token_hex(6)}") for _ in range(count)]
        for person in people:
            await register(self.context, person)
        subscribers = {each.email: stripe_id_of(each) for each in people}
        system: dict[str, Any] = {"active": [], "operators": {}, "subscribers": subscribers}
        await set_up_accounts(self.context, system)
        return people

    async def join(self, count: int) -> list[Customer]:
        """Let customers sign up, pay and answer calls."""
        people = await self.sign_up(count)
        for person in people:
            await self.pay(person)
        joined = []
        for person in people:
            await self.until_active(person)
            line = await make_line(self.context, person)
            line.desk.answer = self._plan(line)
            line.desk.tool = {"result": "Go on."}
            joined.append(Customer(person, line))
        self.all += joined
        return joined

    async def pay(self, person: Person) -> None:
        """Let Stripe report that a person has subscribed."""
        about = {"object": "subscription", "customer": stripe_id_of(person)}
        event = {
            "id": f"evt_{secrets.token_hex(12)}",
            "object": "event",
            "type": "customer.subscription.created",
            "data": {"object": about},
        }
        body, now = json.dumps(event).encode(), int(time.time())
        secret = self.context.product.environment["STRIPE_WEBHOOK_SECRET"]
        signed = hmac.new(secret.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
        answer = await self.context.web.ask(
            "POST",
            "/webhooks/stripe",
            raw=body,
            headers={"Stripe-Signature": f"t={now},v1={signed}"},
        )
        if answer.status != 200:
            raise Failed(f"Stripe's event was not accepted: {answer}")

    async def until_active(self, person: Person, *, within: float = 30.0) -> float:
        """Return how long it takes until an account is active."""
        began = time.monotonic()

        async def is_active() -> bool:
            answer = await self.context.api(person, "GET", "/api/account")
            return answer.status == 200 and answer.json["account"]["status"] == "ACTIVE"

        if not await until(is_active, within=within):
            raise Failed(f"{person.email} has paid, and is not active after {within:.0f} s.")
        return time.monotonic() - began

    def _plan(self, line: Line) -> dict[str, Any]:
        turns = [
            [{"say": f"Turn {n}."}, {"call": "look_up", "arguments": {"turn": n}}]
            for n in range(1, _MOST_TURNS)
        ]
        paced = [[{"wait": _TURN_EVERY_MS}, *turn] for turn in turns]
        prompt = f"You count.\n\n```sandbox\n{json.dumps(paced)}\n```\n"
        return plan(line.twilio, line.desk, model="gpt-realtime-1.5", systemPrompt=prompt)

    # Calls

    async def fill(self, count: int, *, engine: str = "") -> list[Placed]:
        """Start calls, at one engine if given; return when all of them talk.

        One in five is outbound.
        """
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> Placed:
            customer = self.customers[number % len(self.customers)]
            place = self.place_outbound if number % 5 == 4 else self.place
            async with places:
                return await place(customer, engine=engine)

        made = await asyncio.gather(*map(one, range(count)))
        await self.until_talking(made)
        return made

    async def place(self, customer: Customer, *, engine: str = "") -> Placed:
        """Place an inbound call and connect it; raise :class:`Failed` if that fails."""
        sid = new_call_sid()
        answer = await ring(
            self.proxy, to=customer.line.number, account=customer.line.twilio, call_sid=sid
        )
        placed = await self.connect(customer, sid, answer, engine=engine)
        if placed is None:
            raise Failed(f"An ordinary call was not connected: {answer}")
        return placed

    async def connect(
        self, customer: Customer, call_sid: str, answer: Answer, *, engine: str = ""
    ) -> Placed | None:
        """Open a call's media socket; return None if the TwiML has none or no engine accepts."""
        told = read(answer)
        if not told.connects:
            return None
        self.context.canaries.add(
            told.ticket.partition(".")[2], *map(token_of, told.links.values())
        )
        try:
            name, socket = await self.proxy.open_media(customer.line.twilio, engine)
        except NOT_TAKEN:
            return None
        await introduce(socket, customer.line.twilio, call_sid, told)
        return self.know(customer, call_sid, told, name, socket)

    def know(
        self,
        customer: Customer,
        call_sid: str,
        told: Twiml,
        engine: str,
        socket: aiohttp.ClientWebSocketResponse,
    ) -> Placed:
        """Talk on a socket, and record what must become of the call."""
        call = TalkingCall.on(socket, customer.line.twilio, call_sid, told)
        placed = Placed(customer, call_sid, engine, call)
        customer.calls.append(placed)
        self.placed.append(placed)
        return placed

    async def place_outbound(self, customer: Customer, *, engine: str = "") -> Placed:
        """Place an outbound call that is answered."""
        order = await self.context.order(customer.line, CALLER)
        answer = await answer_outbound(self.proxy, order, customer.line.twilio)
        placed = await self.connect(customer, order["CallSid"], answer, engine=engine)
        if placed is None:
            raise Failed(f"An outbound call was not connected: {answer}")
        return placed

    async def until_talking(self, placed: Iterable[Placed], *, within: float = 40.0) -> None:
        silent = list(placed)
        if not await until(lambda: all(each.call.heard for each in silent), within=within):
            count = sum(not each.call.heard for each in silent)
            raise Failed(f"{count} of {len(silent)} calls heard nothing within {within:.0f} s.")

    async def hang_up(self, placed: Iterable[Placed]) -> None:
        await asyncio.gather(*(each.call.hang_up() for each in placed))

    async def tell(self, placed: Iterable[Placed]) -> None:
        """Report ended streams as Twilio does."""
        await asyncio.gather(*map(self._tell, placed))

    async def _tell(self, placed: Placed) -> None:
        account, links = placed.customer.line.twilio, placed.call.links
        form = {"CallSid": placed.call_sid, "AccountSid": account.sid}
        stopped = {**form, "StreamSid": f"MZ{secrets.token_hex(16)}", "StreamEvent": "stream-error"}
        await post(self.proxy, links["stream"], stopped, account)
        await post(self.proxy, links["after"], {**form, "CallStatus": "in-progress"}, account)


async def introduce(
    socket: aiohttp.ClientWebSocketResponse, account: TwilioAccount, call_sid: str, told: Twiml
) -> None:
    connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    for message in (connected, start_message(account, call_sid, told.ticket)):
        await socket.send_str(orjson.dumps(message).decode())


def stripe_id_of(person: Person) -> str:
    return f"cus_{person.name}"
