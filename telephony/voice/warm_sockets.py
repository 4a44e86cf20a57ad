"""Sockets to the model that are opened before the media stream of their call.

Between our TwiML and the stream, a caller waits for Twilio. Meanwhile this process connects to the
model, so that DNS, TCP, TLS and the upgrade cost the call no time. That is of use only if the
stream comes to this process, as it does if there is one engine or if each names a media URL of its
own. A proxy may send it to any engine: so we count how many streams come, and open no sockets while
few do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from telephony.call_log import bind_call
from telephony.engine.plan import CallPlan
from telephony.models import Call
from telephony.voice.model_side import CONNECT_WITHIN_S, ModelSide, url_of
from telephony.voice.websocket import ConnectFailed

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

log = structlog.get_logger(__name__)

#: An unused socket is closed after this long.
UNUSED_S = 15.0
#: Unused sockets at a time. Twilio opens a stream in less than a second, so this is some hundred
#: calls a second.
MOST = 100

# The share of streams that came to us: a moving average in which the last one weighs a tenth.
_WEIGHT = 0.1
_ENOUGH = 0.75


@dataclass(slots=True)
class _Expected:
    """A call whose stream may come to this process, and its socket, if one was opened."""

    timer: asyncio.TimerHandle
    side: ModelSide | None = None
    opening: asyncio.Task[None] | None = None
    identity: tuple[str, str] = ("", "")


class WarmSockets:
    """The calls whose streams are expected, by id. It belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._expected: dict[str, _Expected] = {}
        self._is_listening = False
        self._share_that_came = 1.0

    def __len__(self) -> int:
        """Return the number of unused sockets that are open or opening."""
        sides = [each.side for each in self._expected.values()]
        return sum(side is not None and not side.is_closed for side in sides)

    def start(self) -> None:
        """Expect streams: this process listens for them."""
        self._is_listening, self._share_that_came = True, 1.0

    def stop(self) -> None:
        """Close all unused sockets, and open no more."""
        self._is_listening = False
        for call_id in list(self._expected):
            self._drop(call_id)

    def expect(self, call: Call, plan: CallPlan) -> None:
        """Open the model's socket for an accepted call, if its stream will probably come here.

        Not if a greeting is played first: the stream comes when it has been heard.
        """
        if not self._is_listening or plan.greeting_url or len(self._expected) >= MOST:
            return
        self._drop(call.id)  # of an earlier webhook for the same call
        timer = asyncio.get_running_loop().call_later(UNUSED_S, self._miss, call.id)
        expected = self._expected[call.id] = _Expected(timer)
        if self._share_that_came >= _ENOUGH:
            self._open(expected, call, plan)

    def _open(self, expected: _Expected, call: Call, plan: CallPlan) -> None:
        expected.side, expected.identity = ModelSide(call), _identity(plan)
        context = Context()  # its log lines are about the call, and not about this webhook
        context.run(bind_call, call)
        opening = expected.side.open(plan, CONNECT_WITHIN_S)
        expected.opening = asyncio.get_running_loop().create_task(opening, context=context)
        expected.opening.add_done_callback(_opened)

    def take(self, plan: CallPlan, runner: CallRunner) -> Awaitable[None] | None:
        """Let the runner have its call's socket, if there is one that is open or opening.

        Not one that another plan opened: of two webhooks for a call, another process may have
        answered the later one, with another key or model. Awaiting the result raises
        :class:`ConnectFailed` if the socket does not open.
        """
        expected = self._expected.get(runner.call.id)
        if expected is None:
            return None
        self._count(came=True)
        if expected.side is None or expected.side.is_closed or expected.identity != _identity(plan):
            self._drop(runner.call.id)
            return None
        self._forget(runner.call.id)
        expected.side.serve(runner)
        return expected.opening

    def _miss(self, call_id: str) -> None:
        self._count(came=False)
        self._drop(call_id)

    def _count(self, *, came: bool) -> None:
        self._share_that_came += _WEIGHT * (came - self._share_that_came)

    def _drop(self, call_id: str) -> None:
        """Expect the call's stream no more, and close its socket."""
        expected = self._forget(call_id)
        if expected is not None and expected.opening is not None and expected.side is not None:
            expected.opening.cancel()
            expected.side.close()

    def _forget(self, call_id: str) -> _Expected | None:
        expected = self._expected.pop(call_id, None)
        if expected is not None:
            expected.timer.cancel()
        return expected


def _identity(plan: CallPlan) -> tuple[str, str]:
    """Return where a plan's model is, and the key of the account that pays for it."""
    return url_of(plan), plan.openai_api_key


def _opened(opening: asyncio.Task[None]) -> None:
    """Look at a failure that no call may see: asyncio would report it."""
    error = None if opening.cancelled() else opening.exception()
    if error is not None and not isinstance(error, ConnectFailed):
        log.error("warm_socket_failed", error=type(error).__name__)


#: Those of this process.
warm_sockets = WarmSockets()
