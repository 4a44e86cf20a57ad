"""The port of the media sockets, and the calls of this process that came in through it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from functools import partial
from typing import Self
from urllib.parse import urlsplit

from django.conf import settings

from telephony.callbacks import client
from telephony.voice import websocket
from telephony.voice.caller_side import CallerSide
from telephony.voice.gate import gate
from telephony.voice.heart import Heart
from telephony.voice.live import LiveCalls
from telephony.voice.strangers import MOST_WAITING, Strangers
from telephony.voice.websocket import Handler, Limits

_LOOK_AGAIN_S = 0.2
# Twilio's own messages have a few hundred bytes; its parameters at most a few thousand. Its second
# message is the start; then come 50 a second, or what has gathered in a stall.
_LIMITS = Limits(message=64 << 10, rate=200, burst=1000, stranger=(64, 64 << 10))


class MediaListener:
    """The port of the media sockets, and the calls that came in through it."""

    def __init__(self, listener: websocket.Listener, calls: LiveCalls, heart: Heart) -> None:
        self._listener = listener
        self.calls = calls
        self._heart = heart

    @classmethod
    async def start(cls, host: str, port: int, heart: Heart | None = None) -> Self:
        """Listen; raise :class:`OSError` if the port is taken.

        :param heart: another than one that beats in the database.
        """
        # What is loaded stays loaded. A search through it for garbage would stop all calls.
        gc.collect()
        gc.freeze()
        gate.open()
        heart = heart or Heart()
        calls = LiveCalls(heart.engine_id)
        accept = partial(_accept, calls, Strangers())
        listener = await websocket.listen(
            host, port, accept, limits=_LIMITS, most_waiting=MOST_WAITING
        )
        heart.start()
        return cls(listener, calls, heart)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def waiting(self) -> int:
        """How many connections no ticket has let in yet."""
        return self._listener.waiting

    async def drain(self) -> None:
        """Take no more calls than those that are on their way here, and wait for the end of all."""
        await self._heart.drain()
        await self._let_the_last_in()
        await self.stop()

    async def _let_the_last_in(self) -> None:
        """Wait for the sockets of tickets that we gave out.

        Where no other engine is, new calls are taken while we have to stay for earlier ones.
        """
        earlier = self.calls.ids
        while True:
            earlier &= self.calls.ids
            if gate.is_orphan or gate.has_others or not earlier:
                gate.close()
                if not await gate.is_expected():
                    return
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def stop(self) -> None:
        """Close the port, and wait until the calls that are there have ended."""
        gate.close()
        self._listener.close()
        while self._listener.waiting or len(self.calls):  # noqa: ASYNC110 (two counts)
            await asyncio.sleep(_LOOK_AGAIN_S)
        await self._heart.stop()
        await client.close()


def _accept(
    calls: LiveCalls, strangers: Strangers, path: str, headers: Mapping[str, str]
) -> Handler | None:
    if path.partition("?")[0] != urlsplit(settings.MEDIA_STREAM_URL).path:
        return None
    return CallerSide(calls, strangers, headers.get("X-Twilio-Signature", ""))
