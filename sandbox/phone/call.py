"""One call: its parties, its state, and its end."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal

import aiohttp

from sandbox.phone.clock import Clock
from sandbox.phone.faults import NO_FAULTS, Faults
from sandbox.phone.identity import CarrierAccount, new_sid
from sandbox.phone.journal import Journal
from sandbox.phone.line import Line, LineClosed
from sandbox.phone.person import Person
from sandbox.phone.stream import MediaStream
from sandbox.phone.twiml import Document, TwimlError, parse
from sandbox.phone.webhooks import Answer, WebhookError, Webhooks

# The current activity of a call.
Work = Coroutine[Any, Any, None]
Direction = Literal["inbound", "outbound-api"]
Ending = Literal["completed", "busy", "no-answer", "failed", "canceled"]

API_VERSION = "2010-04-01"
# Errors that may end a call's work without a fault of the sandbox.
_EXPECTED = WebhookError | LineClosed | None
_TWIML_TYPES = ("text/xml", "application/xml", "text/html")


class Call:
    """A call as Twilio sees it.

    It runs one activity at a time (ringing, then TwiML) until the call ends or is redirected. The
    line ticks from the answer to the end.
    """

    def __init__(
        self,
        *,
        account: CarrierAccount,
        to: str,
        from_: str,
        direction: Direction,
        session: aiohttp.ClientSession,
        clock: Clock,
        sid: str = "",
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.sid = sid or new_sid("CA")
        self.account = account
        self.to = to
        self.from_ = from_
        self.direction = direction
        self.status = "queued" if direction == "outbound-api" else "ringing"
        self.answered_by = ""
        self.created_at = datetime.now(UTC)
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.clock = clock
        self.faults = faults
        self.session = session
        self.journal = Journal(clock)
        self.webhooks = Webhooks(session, account.token, self.journal, faults)
        self.line = Line(clock, self.journal)
        self.person = Person(
            self.line,
            self.journal,
            press=self._press,
            hang_up=lambda: self.hang_up(by=self._person_is),
        )
        self.stream: MediaStream | None = None
        self.on_answer: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self._answered = 0.0
        self._duration = 0.0
        self._interruption: asyncio.Future[Callable[[], Work] | None] = asyncio.Future()
        self._background: set[asyncio.Task[Any]] = set()
        self._notifications: dict[str, asyncio.Task[Any]] = {}

    @property
    def duration(self) -> int:
        """Whole seconds of call time from answer to end, rounded up as carriers do."""
        return math.ceil(self._duration)

    @property
    def seconds_since_end(self) -> float:
        """Call time since the end; zero while the call is in progress."""
        return self.clock.now() - self._answered - self._duration if self.is_over else 0.0

    @property
    def is_answered(self) -> bool:
        return self.answered_at is not None

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    @property
    def went_through(self) -> bool:
        """Return True if the person talked over a media stream and nothing failed."""
        return (
            self.status == "completed"
            and bool(self.journal.of("stream-connected"))
            and not self.journal.of("error")
        )

    def parameters(self) -> dict[str, str]:
        """Return the parameters of every request about this call."""
        common = {
            "AccountSid": self.account.sid,
            "ApiVersion": API_VERSION,
            "CallSid": self.sid,
            "CallStatus": self.status,
            "Called": self.to,
            "Caller": self.from_,
            "Direction": self.direction,
            "From": self.from_,
            "To": self.to,
        }
        places = {
            f"{end}{what}": "US" if what == "Country" else ""
            for end in ("From", "To", "Caller", "Called")
            for what in ("City", "State", "Zip", "Country")
        }
        if self.answered_by:
            common["AnsweredBy"] = self.answered_by
        if self.direction == "inbound":
            common["StirVerstat"] = "TN-Validation-Passed-A"
            common["CallToken"] = json.dumps({"parentCallInfoToken": f"sandbox.{self.sid}=="})
        return common | places

    # What happens to a call

    def answer(self) -> None:
        """Connect the two ends: the line ticks from now on."""
        if self.is_answered or self.is_over:
            return
        self.answered_at = datetime.now(UTC)
        self._answered = self.clock.now()
        self.status = "in-progress"
        self.journal.add("answered", answered_by=self.answered_by)
        self.start(self.line.run())
        self.on_answer()

    def hang_up(self, *, by: str) -> None:
        """End the call, whoever requests it. An end is final."""
        if self.is_answered:
            ending: Ending = "completed"
        else:
            ending = "canceled" if by == "api" else "no-answer"
        self.end(ending, by=by)

    def new_stream(self, url: str, parameters: dict[str, str]) -> MediaStream:
        """Return a stream for this call's audio, not yet open."""
        return MediaStream(
            account_sid=self.account.sid,
            call_sid=self.sid,
            url=url,
            parameters=parameters,
            line=self.line,
            clock=self.clock,
            journal=self.journal,
            faults=self.faults,
        )

    async def play_out(self, audio: bytes) -> None:
        """Play audio to the person to its end, or until the call is redirected."""
        playback = self.line.playback
        playback.add(audio)
        try:
            await self.line.until(lambda: playback.is_empty)
        finally:
            playback.clear()

    def end(self, ending: Ending, *, by: str = "") -> None:
        if self.is_over:
            return
        self.ended_at = datetime.now(UTC)
        if self.is_answered:
            self._duration = self.clock.now() - self._answered
        self.status = ending
        self.line.close()
        if by:
            self.journal.add("hang-up", by=by)
        self.on_end()
        self._interrupt(None)

    def redirect(self, work: Callable[[], Work]) -> None:
        """Replace the current activity by another."""
        self._interrupt(work)

    async def ended(self, *, within: float = 10.0) -> None:
        """Return when the call has ended and every request about it was made.

        :raises TimeoutError: that takes longer than this many real seconds.
        """
        await self.journal.wait_for("ended", within=within)

    async def run(self, opening: Work) -> None:
        """Run the call: the opening, then whatever it is redirected to, until it ends."""
        work = asyncio.create_task(opening)
        while True:
            either: set[asyncio.Future[Any]] = {work, self._interruption}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self._interruption.done():
                break
            instead = self._interruption.result()
            self._interruption = asyncio.Future()
            work.cancel()
            await asyncio.wait({work})
            self._report_crash(work)
            if instead is None:
                break
            work = asyncio.create_task(instead())
        self._report_crash(work)
        self.hang_up(by="product")
        await self._finish()

    # Requests about the call

    async def fetch(
        self, purpose: str, url: str, *, method: str = "POST", **extra: str
    ) -> Document:
        """Request TwiML.

        :raises TwimlError: there is no usable TwiML.
        """
        try:
            answer = await self.request(purpose, url, method=method, **extra)
        except WebhookError as error:
            raise TwimlError(error.code, error.message) from None
        return document_from(answer, url)

    async def request(
        self, purpose: str, url: str, *, method: str = "POST", **extra: str
    ) -> Answer:
        """Make a request about the call, which continues even if nothing waits for it any more."""
        parameters = self.parameters() | extra
        request = self.webhooks.request(purpose, url, parameters, method=method or "POST")
        return await asyncio.shield(self.start(request))

    def notify(
        self, purpose: str, url: str, parameters: dict[str, str], *, method: str = "POST"
    ) -> None:
        """Make a request whose response does not matter, after earlier ones of the same purpose."""
        if purpose in self.faults.lost:
            return
        before = self._notifications.get(purpose)
        self._notifications[purpose] = self.start(
            self._notify(purpose, url, parameters, method or "POST", before)
        )

    async def _notify(
        self,
        purpose: str,
        url: str,
        parameters: dict[str, str],
        method: str,
        before: asyncio.Task[Any] | None,
    ) -> None:
        if before:
            await asyncio.wait({before})
        try:
            await self.webhooks.request(purpose, url, parameters, method=method)
        except WebhookError as error:
            self.journal.add("warning", code=error.code, message=error.message)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the call; the call finishes only after it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(self._report_crash)
        return task

    @property
    def _person_is(self) -> str:
        return "caller" if self.direction == "inbound" else "callee"

    def _press(self, digit: str) -> None:
        if self.stream:
            self.stream.press(digit)
        else:
            self.line.keys.append(digit)

    def _interrupt(self, instead: Callable[[], Work] | None) -> None:
        if not self._interruption.done():
            self._interruption.set_result(instead)

    def _report_crash(self, work: asyncio.Task[Any]) -> None:
        if work.cancelled() or isinstance(error := work.exception(), _EXPECTED):
            return
        self.journal.add("error", code=0, message=f"The sandbox failed: {error!r}")

    async def _finish(self) -> None:
        while self._background:
            await asyncio.wait(set(self._background))
        self.journal.add(
            "ended",
            status=self.status,
            duration=self.duration,
            went_through=self.went_through,
        )
        self.journal.close()


def document_from(answer: Answer, url: str) -> Document:
    """Return the TwiML in a response; raise :class:`TwimlError` if there is none."""
    if not answer.is_success:
        raise TwimlError(11200, f"{url} answered {answer.status}")
    if answer.content_type not in _TWIML_TYPES:
        raise TwimlError(12300, f"{url} answered {answer.content_type}, which is no TwiML")
    return parse(answer.body, url)


def timestamp(moment: datetime) -> str:
    """Return the time as Twilio writes it in requests and resources (RFC 2822)."""
    return format_datetime(moment)
