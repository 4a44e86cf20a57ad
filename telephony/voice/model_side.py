"""The model's side of a call: opens its socket and handles its messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.conf import settings

from telephony.call_log import names_of
from telephony.engine.plan import CallPlan
from telephony.voice import websocket
from telephony.voice.websocket import ConnectFailed, Handler, Socket

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

CONNECT_WITHIN_S = 8.0
# OpenAI is overloaded or restarting: a moment later another server may accept the call.
TRY_AGAIN_STATUSES = frozenset({429, 500, 502, 503, 504})
TRY_AGAIN_AFTER_S = 0.5


async def connect(plan: CallPlan, runner: CallRunner) -> None:
    """Open the model's socket for a call; raise :class:`ConnectFailed`.

    A refusal that may be temporary is retried once.
    """
    try:
        await _open(plan, runner)
    except ConnectFailed as failure:
        if failure.status not in TRY_AGAIN_STATUSES:
            raise
        await asyncio.sleep(TRY_AGAIN_AFTER_S)
        await _open(plan, runner)


async def _open(plan: CallPlan, runner: CallRunner) -> None:
    url = f"{settings.OPENAI_REALTIME_URL}?model={quote(plan.model)}"
    headers = {"Authorization": f"Bearer {plan.openai_api_key}"}
    await websocket.connect(
        url, headers=headers, handler=ModelSide(runner), timeout=CONNECT_WITHIN_S
    )


class ModelSide(Handler):
    def __init__(self, runner: CallRunner) -> None:
        self._runner = runner
        self.names = names_of(runner.call)

    def on_open(self, socket: Socket) -> None:
        self._runner.model_opened(socket)

    def on_message(self, text: bytes) -> None:
        self._runner.model_message(text)

    def on_close(self, code: int, reason: str) -> None:
        self._runner.model_closed(code, reason)

    def on_blocked(self) -> None:
        self._runner.model_blocked()

    def on_unblocked(self) -> None:
        self._runner.model_unblocked()
