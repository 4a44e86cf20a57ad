"""The drain state of this engine: whether it accepts new calls, and which calls it still expects.

Twilio opens the media socket a moment after it receives the TwiML, or minutes after if there is a
greeting. A draining engine therefore keeps its media port open for the tickets that it has issued.
If another engine accepts calls, it issues no more tickets. If there is none, it keeps issuing them
for as long as it has to stay for earlier calls.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from time import monotonic

import structlog
from django.http import HttpResponse

from telephony.db import in_database
from telephony.models import Call

log = structlog.get_logger(__name__)

# At this many tickets, drop those that have expired.
_MANY = 10_000


class DrainState:
    def __init__(self) -> None:
        self.accept_calls()

    def accept_calls(self) -> None:
        """Start to accept calls."""
        self.is_accepting = True
        self._parent = os.getppid()
        #: Whether another engine accepts calls, as far as this engine knows while it drains.
        self.has_others = False
        self._webhooks: set[asyncio.Task[HttpResponse]] = set()
        self._tickets: dict[str, float] = {}  # call id → when the ticket expires

    @property
    def is_orphan(self) -> bool:
        """Return True if gunicorn has exited and closed the HTTP port, which another engine may
        take over.
        """
        return os.getppid() != self._parent

    def refusal(self, in_twiml: HttpResponse) -> HttpResponse | None:
        """Return the response to a new call, or None to accept the call.

        Status 503 sends the call to another engine.

        :param in_twiml: the response to Twilio if there is no other engine.
        """
        if self.is_accepting:
            return None
        if not (self.has_others or self.is_orphan):
            return in_twiml
        headers = {"Connection": "close", "Retry-After": "1"}
        return HttpResponse("This engine is shutting down.\n", status=503, headers=headers)

    def handling(self, task: asyncio.Task[HttpResponse]) -> None:
        """Track a webhook that is being handled: it may issue a ticket."""
        self._webhooks.add(task)
        task.add_done_callback(self._webhooks.discard)

    def issued_ticket(self, call_id: str, valid_for: timedelta) -> None:
        now = monotonic()
        if len(self._tickets) >= _MANY:
            self._tickets = {each: until for each, until in self._tickets.items() if until > now}
        self._tickets[call_id] = now + valid_for.total_seconds()

    def refuse_calls(self) -> None:
        """Accept no more calls."""
        self.is_accepting = False

    async def is_expected(self) -> bool:
        """Return True if a media socket may still come for one of our tickets."""
        if self._webhooks:
            return True
        now = monotonic()
        self._tickets = {each: until for each, until in self._tickets.items() if until > now}
        if self._tickets:
            try:
                await self._forget_used()
            except Exception as error:  # tickets expire anyway
                log.warning("unused_tickets_query_failed", error=type(error).__name__)
        return bool(self._tickets)

    async def _forget_used(self) -> None:
        unused = await in_database(_waiting_for_audio, list(self._tickets))
        self._tickets = {each: self._tickets[each] for each in unused if each in self._tickets}


#: The state of this process, whichever ports it listens on.
drain_state = DrainState()


def _waiting_for_audio(call_ids: list[str]) -> list[str]:
    calls = Call.objects.live().filter(pk__in=call_ids, answered_at=None)
    return list(calls.values_list("pk", flat=True))
