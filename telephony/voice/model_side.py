"""The model's side of a call: its socket and the messages that come through it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from django.conf import settings

from telephony.call_log import names_of
from telephony.engine.plan import CallPlan
from telephony.voice import websocket
from telephony.voice.websocket import Handler, Socket

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner


class ModelSide(Handler):
    def __init__(self, runner: CallRunner) -> None:
        self._runner = runner
        self.names = names_of(runner.call)

    async def open(self, plan: CallPlan, within_s: float) -> None:
        """Open the socket; raise :class:`~telephony.voice.websocket.ConnectFailed`."""
        url = f"{settings.OPENAI_REALTIME_URL}?model={quote(plan.model)}"
        headers = {"Authorization": f"Bearer {plan.openai_api_key}"}
        await websocket.connect(url, headers=headers, handler=self, timeout=within_s)

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
