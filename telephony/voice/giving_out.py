"""Gives a call out to another media stream: to one of another engine, since this one stops, or to
one of any engine, since its own broke.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from telephony.engine.events import MoveDue
from telephony.engine.session import CallSession
from telephony.engine.snapshot import MoveReason
from telephony.voice import transactions
from telephony.voice.storing import stored
from telephony.voice.websocket import Socket

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

# How often a conversation is stored that goes on meanwhile.
TRIES = 3
# For how long the model may report a response that a move cuts short: so many looks of so long.
CUT_LOOKS, CUT_LOOK_S = 10, 0.05
# A stream that brings nothing for so long is over, if Twilio says so; and how often to look.
SILENT_S = 0.25
SILENT_LOOKS = 4


class GivingOut:
    """Gives out the call of one runner.

    :param caller: the socket of the stream that the call has now.
    """

    def __init__(
        self, runner: CallRunner, session: CallSession, caller: Socket, engine_id: str
    ) -> None:
        self._runner = runner
        self._session = session
        self._caller = caller
        self._engine_id = engine_id
        self._task: asyncio.Task[None] | None = None

    @property
    def _is_in_progress(self) -> bool:
        return self._task is not None and not self._task.done()

    def may_begin(self, *, is_late: bool) -> bool:
        """Return True if another engine may go on with the call now: at a turn boundary.

        :param is_late: it waits for running tools and a goodbye only.
        """
        return self._runner.can_move and not self._is_in_progress and self._is_moment(is_late)

    def begin(self, reason: MoveReason, *, is_late: bool = False) -> None:
        """Begin to give out the call, unless that has begun and will notice what happens."""
        if not self._is_in_progress:
            self._task = self._runner.spawn(self._give_out(reason, is_late=is_late))

    async def begin_if_silent(self) -> None:
        """Let another stream go on with the call, since Twilio says that this one is over.

        Twilio may know before this process does. A request during which audio arrives is a
        repetition, or not from Twilio, and changes nothing.
        """
        if not self._runner.can_move:
            return
        for _ in range(SILENT_LOOKS):
            if self._runner.is_closed or not await self._is_alive():
                break
        else:
            return
        self._runner.caller_lost()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _is_alive(self) -> bool:
        """Return True if the caller's socket brings something: Twilio sends 50 frames a second."""
        before = self._caller.arrivals
        await asyncio.sleep(SILENT_S)
        return self._caller.arrivals != before

    async def _give_out(self, reason: MoveReason, *, is_late: bool = False) -> None:
        """Store the conversation for the next stream, and close the sockets: Twilio asks for it.

        If something happens while it is stored, it is stored again. If that keeps happening, or
        this is no turn boundary any more, the call stays until the next look, if it can. Once
        another stream has the call, nothing is stored: it may be one to this engine.
        """
        runner = self._runner
        if not runner.can_move:
            return
        if runner.is_closed:  # Twilio may ask at once
            await self._is_stored(reason)
        if self._has_to_leave(is_late):
            await self._end_response()
        for _ in range(TRIES):
            if not runner.can_move:
                return
            if not self._is_moment(is_late):
                break
            received = runner.received
            if not await self._is_stored(reason):
                await self._do_without()
                return
            if received == runner.received:
                runner.leave()
                return
        if self._has_to_leave(is_late):
            runner.leave()
        else:
            await self._stay()

    def _is_moment(self, is_late: bool) -> bool:
        """Return True if the call may leave its stream now."""
        return self._session.is_at_rest or self._has_to_leave(is_late)

    def _has_to_leave(self, is_late: bool) -> bool:
        """Return True if the call does not wait for a turn boundary."""
        return self._runner.is_closed or (is_late and self._session.may_be_cut)

    async def _end_response(self) -> None:
        """Wait a moment for the model's report of a response that the move cuts short."""
        self._runner.receive(MoveDue())
        for _ in range(CUT_LOOKS):
            if not self._session.is_responding:
                return
            await asyncio.sleep(CUT_LOOK_S)

    async def _is_stored(self, reason: MoveReason) -> bool:
        """Store the conversation for the next stream; return False if that failed."""
        runner = self._runner
        is_stored = await stored(
            "call_not_handed_over",
            transactions.hand_over,
            runner.call,
            runner.outcome(reason),
            self._engine_id,
            runner.closed_at,
        )
        return bool(is_stored)

    async def _do_without(self) -> None:
        """Go on without a next stream. If this one is gone, the call ends."""
        if self._runner.is_closed:
            self._runner.end_with_stream()
        else:  # what failed may have been stored
            await self._stay()

    async def _stay(self) -> None:
        """Hold the call again: this is no moment to move it. The next look may find another.

        If that fails, the call is ended as lost and resumed.
        """
        await stored(
            "call_not_taken_back", transactions.take_back, self._runner.call, self._engine_id
        )
        if self._runner.is_closed:  # the stream broke meanwhile, so the call has to leave
            await self._give_out("stream_broken")
