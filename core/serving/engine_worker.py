"""What gunicorn is told to use: the worker of the ``engine`` process, and everybody's logger."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIWorker

from core.serving.engine_http import BoundedProtocol

_BEAT_S = 1.0
_LOOK_AGAIN_S = 0.2
# How long requests may take to end once no call is left: onCallStart takes 10 seconds.
_HTTP_GRACE_S = 15.0


class EngineWorker(ASGIWorker):
    """Gunicorn's ASGI worker, but for its stop and for what one client may hold of it.

    Gunicorn's closes the HTTP port first, gives the application's lifespan 30 seconds, and shows
    the arbiter no sign of life meanwhile, which is taken for a hang. A call may last an hour, and
    needs HTTP until its end: Twilio asks there how to go on once the media stream has closed. So
    here the lifespan ends first, within ``graceful_timeout``, and the heartbeat goes on.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Those that wait for their client, the one that has waited longest first.
        self.waiting: dict[BoundedProtocol, None] = {}
        self._is_draining = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Accept ``threads``: it is for the ``web`` process, which shares the configuration."""

    async def _serve(self) -> None:
        gasgi.ASGIProtocol = BoundedProtocol  # there is no setting for it
        await super()._serve()

    def handle_exit_signal(self) -> None:
        """Tell the application at once: the loop that looks for signals sleeps for a second."""
        super().handle_exit_signal()
        self._begin_to_drain()

    def _begin_to_drain(self) -> None:
        if self.lifespan and not self._is_draining:
            self._is_draining = True
            self.lifespan._receive_queue.put_nowait({"type": "lifespan.shutdown"})

    async def _shutdown(self) -> None:
        heartbeat = self.loop.create_task(self._beat())
        try:
            if self.lifespan:
                await self._end_lifespan()
            # A connection that never sends its first request would hold gunicorn's own wait.
            async with asyncio.timeout(_HTTP_GRACE_S):
                await super()._shutdown()
        except TimeoutError:
            self.log.warning("Closing %d connections that did not end.", self.nr_conns)
        finally:
            heartbeat.cancel()

    def _leave_port(self) -> None:
        """Whoever starts gunicorn again needs the port.

        Requests that have come are answered, on connections that end with that.
        """
        self.alive = False
        for server in self.servers:
            server.close()
        for sock in self.sockets:
            sock.close()

    async def _beat(self) -> None:
        while True:
            self.notify()
            if self.ppid != os.getppid():  # also when that happens in the middle of a drain
                self._leave_port()
            await asyncio.sleep(_BEAT_S)

    async def _end_lifespan(self) -> None:
        """Let the application drain, until it has, its time is up, or SIGINT or SIGQUIT ends it.

        Gunicorn's own step then finds the lifespan finished and has nothing to wait for.
        """
        lifespan = self.lifespan
        deadline = self.loop.time() + self.cfg.graceful_timeout
        self._begin_to_drain()
        while not lifespan._app_finished and not self._quick_shutdown:
            if self.loop.time() > deadline:
                self.log.warning("Stopping with calls still going on: graceful_timeout is over.")
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        lifespan._task.cancel()
        await asyncio.wait([lifespan._task], timeout=_BEAT_S)


class GunicornLogger(Logger):
    """Gunicorn's own lines, down the road of all others (``core.logs``). No access log."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
