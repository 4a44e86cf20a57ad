"""The listener for media sockets, and this process's calls that came in through it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Self
from urllib.parse import urlsplit

from django.conf import settings

from core import self_check
from telephony.callbacks import client
from telephony.voice import websocket
from telephony.voice.caller_side import CallerSide
from telephony.voice.departures import Departures
from telephony.voice.drain_state import drain_state
from telephony.voice.heartbeat import EngineHeartbeat
from telephony.voice.live import LiveCalls
from telephony.voice.unadmitted import MOST_WAITING, UnadmittedSockets
from telephony.voice.warm_sockets import warm_sockets
from telephony.voice.websocket import Handler, Limits, Socket

_LOOK_AGAIN_S = 0.2
#: For how long a draining engine still accepts new calls, although others do too: proxies ask every
#: second or two whether it is ready. Development has no proxy.
NOTICED_WITHIN_S = 0.0 if settings.DEBUG else 3.0
# Twilio's messages have a few hundred bytes, its parameters a few thousand at most. The second
# message is the start. Then come 50 a second, or a burst after a stall.
_LIMITS = Limits(message=64 << 10, rate=200, burst=1000, unidentified=(64, 64 << 10))


class MediaListener:
    """The listener for media sockets, and the calls that came in through it."""

    def __init__(
        self, listener: websocket.Listener, calls: LiveCalls, heartbeat: EngineHeartbeat
    ) -> None:
        self._listener = listener
        self.calls = calls
        self._heartbeat = heartbeat

    @classmethod
    async def start(cls, host: str, port: int, heartbeat: EngineHeartbeat | None = None) -> Self:
        """Listen; raise :class:`OSError` if the port is taken.

        :param heartbeat: a replacement for the heartbeat that is written to the database.
        """
        # Loaded modules stay loaded, and a garbage collection of them would stall every call.
        gc.collect()
        gc.freeze()
        drain_state.accept_calls()
        heartbeat = heartbeat or EngineHeartbeat()
        calls = LiveCalls(heartbeat.me.id)
        heartbeat.count_calls = calls.__len__
        accept = partial(_accept, calls, UnadmittedSockets())
        listener = await websocket.listen(
            host, port, accept, limits=_LIMITS, most_waiting=MOST_WAITING
        )
        heartbeat.start()
        warm_sockets.start()
        return cls(listener, calls, heartbeat)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def waiting(self) -> int:
        """The number of unadmitted connections."""
        return self._listener.waiting

    async def drain(self) -> None:
        """Accept only calls that are already on their way, and wait until all calls have left.

        They move to another engine at their next turn boundary. If there is none, they end here.
        """
        await self._heartbeat.drain()
        await self._let_the_last_in()
        await self.stop()

    async def _let_the_last_in(self) -> None:
        """Wait for the sockets of tickets that were issued.

        Proxies that ask ``/readyz`` need a moment to send new calls to other engines. If there is
        no other engine, accept new calls for as long as earlier ones keep us here.
        """
        earlier, began = self.calls.ids, monotonic()
        while True:
            earlier &= self.calls.ids
            is_noticed = monotonic() - began >= NOTICED_WITHIN_S
            if drain_state.is_orphan or (is_noticed if drain_state.has_others else not earlier):
                drain_state.refuse_calls()
                if not await drain_state.is_expected():
                    return
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def stop(self) -> None:
        """Close the port, and wait until the calls in progress have ended or moved."""
        drain_state.refuse_calls()
        warm_sockets.stop()
        self._listener.close()
        departures = Departures(_LOOK_AGAIN_S)
        while self._listener.waiting or len(self.calls):
            if drain_state.has_others:
                self.calls.move(departures)
            await asyncio.sleep(_LOOK_AGAIN_S)
        await self._heartbeat.stop()
        await client.close()


def _accept(
    calls: LiveCalls, unadmitted: UnadmittedSockets, path: str, headers: Mapping[str, str]
) -> Handler | None:
    if path.partition("?")[0] != urlsplit(settings.MEDIA_STREAM_URL).path:
        return None
    challenge = headers.get(self_check.HEADER)
    if self_check.is_ours(challenge):
        return _SelfCheck(challenge, calls.engine_id)
    return CallerSide(calls, unadmitted, headers.get("X-Twilio-Signature", ""))


class _SelfCheck(Handler):
    """Sends the answer to a challenge of ``manage.py doctor``, and closes the socket."""

    def __init__(self, challenge: str, engine_id: str) -> None:
        self._challenge = challenge
        self._engine_id = engine_id

    def on_open(self, socket: Socket) -> None:
        forwarded_for = ",".join(socket.headers.getall("X-Forwarded-For", ()))
        answer = self_check.answer_to(
            self._challenge,
            forwarded_for=forwarded_for,
            peer=socket.peer,
            engine_id=self._engine_id,
        )
        socket.send(answer)
        socket.close()
