"""Two simultaneous calls, each observed from both ends: the phone network and the backend."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN
from sandbox.demo.wire import DemoFailed, Wire

CALLER = "+19805551234"
CALLEE = "+19805556789"

# The caller interrupts the greeting, and hears it stop.
CALLER_DOES = [
    {"until_connected": True},
    {"interrupt": "Where is my order A-1001?"},
    {"listen": True},
    {"say": "Thank you, goodbye."},
    {"listen": True},
    {"hang_up": True},
]
CALLEE_DOES = [
    {"until_connected": True},
    {"listen": True},
    {"say": "Great, thank you, goodbye."},
    {"listen": True},
    {"hang_up": True},
]
REMINDER = "Hello, Rosa's Kitchen here. Your table for two is ready at 19:30."

_CALLBACKS_WAIT_S = 10
_CALL_WITHIN_S = 45.0


@dataclass(frozen=True, slots=True)
class Happening:
    """An observation by the phone network or the backend, ``seconds`` after the call began."""

    seconds: float
    source: str  # "phone" or "backend"
    what: dict[str, Any]


@dataclass
class FollowedCall:
    """A call and all observations of it so far. ``order`` is the product's request."""

    order: dict[str, Any] | None = None
    began: float = math.inf
    phone: list[dict[str, Any]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    _news: asyncio.Queue[Happening | BaseException] = field(default_factory=asyncio.Queue)

    @property
    def sid(self) -> str:
        return str(self.phone[0]["call_sid"])

    def notice_phone(self, event: dict[str, Any]) -> None:
        # A late observation makes the start look late: the earliest estimate is right.
        self.began = min(self.began, time.time() - event["at"])
        self.phone.append(event)
        self._news.put_nowait(Happening(event["at"], "phone", event))

    def notice_callback(self, entry: dict[str, Any]) -> None:
        self.callbacks.append(entry)
        arrived = datetime.fromisoformat(entry["at"]).timestamp()
        self._news.put_nowait(Happening(max(0.0, arrived - self.began), "backend", entry))

    def fail(self, error: BaseException) -> None:
        """Tell everything that waits for observations that there will be no more."""
        self._news.put_nowait(error)

    def callback(self, name: str) -> dict[str, Any] | None:
        """Return the first callback with this name, or None while there is none."""
        return next((entry for entry in self.callbacks if entry["callback"] == name), None)

    @property
    def platform_cost(self) -> float:
        """Return the platform's cost of the call in dollars, as reported to the backend."""
        report = self.callback("onCallEnd")
        return float(report["body"]["costBreakdown"]["platformCost"]) if report else 0.0

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.phone if event["kind"] == kind]

    async def happenings(self) -> AsyncIterator[Happening]:
        """Yield observations as they arrive, until the call has ended and its end was reported."""
        try:
            async with asyncio.timeout(_CALL_WITHIN_S):
                while not (self._is_reported and self._news.empty()):
                    news = await self._news.get()
                    if isinstance(news, BaseException):
                        raise news
                    yield news
        except TimeoutError:
            missing = "onCallEnd" if self.events("ended") else "the end of the call"
            raise DemoFailed(f"{missing} did not come within {_CALL_WITHIN_S:.0f} s.") from None

    @property
    def _is_reported(self) -> bool:
        return bool(self.events("ended")) and self.callback("onCallEnd") is not None


class TwoCalls:
    """Places two calls and follows them. An async context manager; leaving it stops following."""

    def __init__(self, api: Wire, sandbox: Wire, number: str) -> None:
        self._api = api
        self._sandbox = sandbox
        self._number = number
        self._by_sid: defaultdict[str, FollowedCall] = defaultdict(FollowedCall)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> tuple[FollowedCall, FollowedCall]:
        self._start(self._follow_callbacks())
        return await self._ring(), await self._be_rung()

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ring(self) -> FollowedCall:
        """Have a person call the number."""
        body = {"to": self._number, "from": CALLER, "script": CALLER_DOES}
        events = self._sandbox.lines("POST", "/phone/calls", body)
        first = await anext(events)
        return self._follow(first["call_sid"], events, first)

    async def _be_rung(self) -> FollowedCall:
        """Have the product call a person."""
        callee = {"answers": "human", "script": CALLEE_DOES}
        await self._sandbox.ask("PUT", f"/phone/callees/{CALLEE}", callee)
        body = outbound_body(self._number, self._sandbox.base)
        _, answer = await self._api.ask("POST", "/api/outbound", body)
        sid = answer["callSid"]
        call = self._follow(sid, self._sandbox.lines("GET", f"/phone/calls/{sid}/events"))
        call.order = body
        return call

    def _follow(
        self, sid: str, events: AsyncIterator[dict[str, Any]], *so_far: dict[str, Any]
    ) -> FollowedCall:
        call = self._by_sid[sid]
        for event in so_far:
            call.notice_phone(event)
        self._start(self._follow_phone(call, events))
        return call

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._pass_on_failure)
        self._tasks.append(task)

    def _pass_on_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            for call in self._by_sid.values():
                call.fail(error)

    async def _follow_phone(
        self, call: FollowedCall, events: AsyncIterator[dict[str, Any]]
    ) -> None:
        async for event in events:
            call.notice_phone(event)

    async def _follow_callbacks(self) -> None:
        seen = 0
        while True:
            _, page = await self._sandbox.ask(
                "GET", f"/backend/callbacks?after={seen}&wait={_CALLBACKS_WAIT_S}"
            )
            for entry in page["callbacks"]:
                seen = entry["number"]
                self._by_sid[entry["body"]["callSid"]].notice_callback(entry)


def outbound_body(number: str, sandbox: str) -> dict[str, Any]:
    """Return the body of ``POST /api/outbound``, with the sandbox as Twilio and as the backend."""
    return {
        "to": CALLEE,
        "from": number,
        "onCallStartUrl": f"{sandbox}/backend/calls/start?{urlencode({'greeting': REMINDER})}",
        "onCallEndUrl": f"{sandbox}/backend/calls/end",
        "onErrorUrl": f"{sandbox}/backend/calls/error",
        "twilioAccountSid": SANDBOX_ACCOUNT_SID,
        "twilioAuthToken": SANDBOX_AUTH_TOKEN,
        "metadata": {"reservation": "R-77"},
    }
