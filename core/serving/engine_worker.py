"""The worker of the ``engine`` process, and the gunicorn logger of both processes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIWorker

from core.serving.engine_http import BoundedProtocol

_BEAT_S = 1.0
_POLL_S = 0.2
# The limit for requests to finish once no call is left. onCallStart takes up to 10 seconds.
_HTTP_GRACE_S = 15.0


class EngineWorker(ASGIWorker):
    """Gunicorn's ASGI worker, with a shutdown that drains calls, and limits on each client.

    To stop, gunicorn's worker first closes the HTTP port, then gives the application's lifespan 30
    seconds. It sends no heartbeat meanwhile, so the arbiter assumes that it hangs. But a call may
    last for hours and needs HTTP until it ends: when the media stream closes, Twilio asks over HTTP
    what to do next. So this worker ends the lifespan first, within ``graceful_timeout``, and keeps
    sending heartbeats.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The protocols that wait for their client, longest wait first.
        self.waiting: dict[BoundedProtocol, None] = {}
        self._is_draining = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Accept ``threads``, which is for the ``web`` process and in the configuration of both."""

    async def _serve(self) -> None:
        gasgi.ASGIProtocol = BoundedProtocol  # gunicorn has no setting for it
        await super()._serve()

    def handle_exit_signal(self) -> None:
        """Tell the application at once; gunicorn's loop checks for signals only once a second."""
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
            # A connection that never sends its first request would hold up gunicorn's own wait.
            async with asyncio.timeout(_HTTP_GRACE_S):
                await super()._shutdown()
        except TimeoutError:
            self.log.warning("Closing %d connections that did not end.", self.nr_conns)
        finally:
            heartbeat.cancel()

    def _close_listeners(self) -> None:
        """Close the listeners, so that a new gunicorn can bind the port.

        Requests that have arrived get a response, and their connections close after it.
        """
        self.alive = False
        for server in self.servers:
            server.close()
        for sock in self.sockets:
            sock.close()

    async def _beat(self) -> None:
        while True:
            self.notify()
            if self.ppid != os.getppid():  # the arbiter is gone, perhaps since this drain began
                self._close_listeners()
            await asyncio.sleep(_BEAT_S)

    async def _end_lifespan(self) -> None:
        """Drain the application until it is done, its time is up, or SIGINT or SIGQUIT arrives.

        Gunicorn's own shutdown then finds the lifespan finished and doesn't wait for it.
        """
        lifespan = self.lifespan
        deadline = self.loop.time() + self.cfg.graceful_timeout
        self._begin_to_drain()
        while not lifespan._app_finished and not self._quick_shutdown:
            if self.loop.time() > deadline:
                self.log.warning("Stopping with calls in progress: graceful_timeout has passed.")
                break
            await asyncio.sleep(_POLL_S)
        lifespan._task.cancel()
        await asyncio.wait([lifespan._task], timeout=_BEAT_S)


class GunicornLogger(Logger):
    """A logger that sends gunicorn's lines to the handlers of ``core.logs``. No access log."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
