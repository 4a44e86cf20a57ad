"""Whether this engine takes new calls: until it is about to stop, and who is let in after that.

Twilio opens the media socket a moment after it was told to, and with a greeting minutes after. So
an engine that is about to stop keeps its media port for the tickets that it has given out. Where
another engine takes calls, it gives out no more of them. Where there is none, it goes on with that
for as long as it has to stay for calls that it had before.
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

# So many tickets are looked through for those that have expired.
_MANY = 10_000


class Gate:
    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """An engine begins: it takes calls."""
        self.takes_calls = True
        self._parent = os.getppid()
        #: Whether somebody else takes calls, as far as is known while this engine is about to stop.
        self.has_others = False
        self._answering: set[asyncio.Task[HttpResponse]] = set()
        self._tickets: dict[str, float] = {}  # call id → when it can be used no more

    @property
    def is_orphan(self) -> bool:
        """Whether gunicorn is gone, and the HTTP port with it: another engine may take it over."""
        return os.getppid() != self._parent

    def refusal(self, in_words: HttpResponse) -> HttpResponse | None:
        """Return what is answered to a new call, if it is not taken: 503 sends it to another one.

        :param in_words: what Twilio is told where there is nobody else.
        """
        if self.takes_calls:
            return None
        if not (self.has_others or self.is_orphan):
            return in_words
        headers = {"Connection": "close", "Retry-After": "1"}
        return HttpResponse("This engine is shutting down.\n", status=503, headers=headers)

    def answering(self, task: asyncio.Task[HttpResponse]) -> None:
        """A webhook is being answered: a ticket may come of it."""
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def gave_ticket(self, call_id: str, valid_for: timedelta) -> None:
        now = monotonic()
        if len(self._tickets) >= _MANY:
            self._tickets = {each: until for each, until in self._tickets.items() if until > now}
        self._tickets[call_id] = now + valid_for.total_seconds()

    def close(self) -> None:
        """Take no more calls."""
        self.takes_calls = False

    async def is_expected(self) -> bool:
        """Whether a media socket may still come for a ticket of ours."""
        if self._answering:
            return True
        now = monotonic()
        self._tickets = {each: until for each, until in self._tickets.items() if until > now}
        if self._tickets:
            try:
                await self._forget_used()
            except Exception as error:  # they expire
                log.warning("tickets_not_known", error=type(error).__name__)
        return bool(self._tickets)

    async def _forget_used(self) -> None:
        unused = await in_database(_waiting_for_audio, list(self._tickets))
        self._tickets = {each: self._tickets[each] for each in unused if each in self._tickets}


#: That of this process, whichever ports it listens at.
gate = Gate()


def _waiting_for_audio(call_ids: list[str]) -> list[str]:
    calls = Call.objects.live().filter(pk__in=call_ids, answered_at=None)
    return list(calls.values_list("pk", flat=True))
