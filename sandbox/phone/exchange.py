"""The telephone network: starts calls, and finds them again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp

from sandbox.phone.call import Call, Direction, Work
from sandbox.phone.callees import Directory
from sandbox.phone.clock import Clock
from sandbox.phone.faults import NO_FAULTS, Faults
from sandbox.phone.identity import Accounts, CarrierAccount
from sandbox.phone.interpreter import Interpreter
from sandbox.phone.numbers import Number, Numbers
from sandbox.phone.outbound import Order, place
from sandbox.phone.person import Step
from sandbox.phone.stream import MediaStream

ANY_CALLER = "+19805551234"
# How long the customer may take to handle the end of the calls when the network shuts down.
_GOODBYE_S = 5.0
# A running sandbox keeps this many calls, with their recordings (2 MB per minute).
_CALLS_KEPT = 50


class Phone:
    """Calls a customer's number, and places the calls that a customer requests.

    Use it as an async context manager; leaving it hangs up all calls in progress.
    """

    def __init__(
        self,
        *,
        voice_url: str,
        account_sid: str,
        auth_token: str,
        speed: float = 1.0,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.account = CarrierAccount(account_sid, auth_token)
        self.accounts = Accounts(self.account)
        self.directory = Directory()
        self.numbers = Numbers()
        self.voice_url = voice_url
        self.speed = speed
        self.faults = faults
        self.calls: dict[str, Call] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._new_call = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for call in self.calls.values():
            call.hang_up(by="sandbox")
        if self._running:
            await asyncio.wait(self._running, timeout=_GOODBYE_S)
        await self._session.close()

    def ring(
        self,
        *,
        to: str,
        from_: str = ANY_CALLER,
        script: Sequence[Step] = (),
        hang_up_after: float | None = None,
        account: CarrierAccount | None = None,
        voice_url: str = "",
        call_sid: str = "",
        faults: Faults | None = None,
    ) -> Call:
        """Let somebody ring the number; return the call at once, as it begins.

        A number whose voice webhook was set rings there, as the account's that set it.

        :param script: what the caller does once the call is answered; a test may do it by hand.
        :param hang_up_after: seconds of call time after the answer.
        :param call_sid: one that was used before, where that is what is tested.
        """
        number = self.numbers.find(to)
        if account is None and number is not None:
            account = self.accounts.find(number.account_sid)
        call = self._call(to, from_, "inbound", account, faults, call_sid)
        call.journal.add("dials-in", call_sid=call.sid, number=to, caller=from_)
        if script:
            call.start(call.person.follow(script))
        if hang_up_after is not None:
            call.start(call.person.follow([Step("wait", hang_up_after), Step("hang_up")]))
        self._begin(call, self._webhook_of(call, number, voice_url))
        return call

    def place(
        self, order: Order, *, account: CarrierAccount | None = None, faults: Faults | None = None
    ) -> Call:
        """Call a person for a customer; return the call at once, queued."""
        call = self._call(order.to, order.from_, "outbound-api", account, faults)
        call.journal.add("queued", call_sid=call.sid, number=order.to, caller=order.from_)
        interpreter = Interpreter(call, self.directory)
        self._begin(call, place(call, order, self.directory(order.to), interpreter))
        return call

    def redirect(self, call: Call, *, url: str = "", method: str = "POST", twiml: str = "") -> None:
        """Replace the call's current activity by other TwiML."""
        interpreter = Interpreter(call, self.directory)
        if twiml:
            call.redirect(lambda: interpreter.run_text(twiml))
        else:
            call.redirect(lambda: interpreter.fetch_and_run("voice", url, method=method))

    def _webhook_of(self, call: Call, number: Number | None, url: str) -> Work:
        """Return the start of an inbound call. There are no applications and no trunks here."""
        interpreter = Interpreter(call, self.directory)
        if number is None or url or not (number.voice_url or number.rings_elsewhere):
            return interpreter.fetch_and_run("voice", url or self.voice_url)
        if number.rings_elsewhere:
            call.journal.add("warning", message="The number has an application or a trunk.")
            return interpreter.run_text("<Response><Reject/></Response>")
        return interpreter.fetch_and_run("voice", number.voice_url, method=number.voice_method)

    async def join(self, call: Call, *, url: str, parameters: dict[str, str]) -> MediaStream:
        """Open an extra stream for the call by hand, also late or with another's parameters.

        It sends only what it is told to, and no audio of the line. Its opener must stop it.

        :raises StreamError: the other side refuses.
        """
        stream = call.new_stream(url, parameters)
        await stream.open(self._session, call.webhooks)
        return stream

    async def call_to(self, number: str, *, within: float = 10.0) -> Call:
        """Return the latest call to the number; wait for one for this many real seconds."""
        async with asyncio.timeout(within):
            while True:
                new_call = self._new_call
                for call in reversed(self.calls.values()):
                    if call.to == number:
                        return call
                await new_call.wait()

    def _call(
        self,
        to: str,
        from_: str,
        direction: Direction,
        account: CarrierAccount | None,
        faults: Faults | None,
        sid: str = "",
    ) -> Call:
        call = Call(
            account=account or self.account,
            to=to,
            from_=from_,
            direction=direction,
            session=self._session,
            clock=Clock(self.speed),
            sid=sid,
            faults=faults or self.faults,
        )
        self._forget_old_calls()
        self.calls[call.sid] = call
        self._new_call.set()
        self._new_call = asyncio.Event()
        return call

    def _begin(self, call: Call, opening: Work) -> None:
        task = asyncio.create_task(call.run(opening))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _forget_old_calls(self) -> None:
        over = [sid for sid, call in self.calls.items() if call.is_over]
        for sid in over[: max(0, len(self.calls) - _CALLS_KEPT)]:
            del self.calls[sid]
