"""The model's side of a call: its socket and the messages that come through it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from django.conf import settings

from telephony.call_log import names_of
from telephony.engine.models import protocol_of
from telephony.engine.plan import CallPlan
from telephony.engine.startup import STARTUP_S
from telephony.model_hosts import credentials
from telephony.models import Call
from telephony.voice import websocket
from telephony.voice.websocket import Handler, Socket

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

# For all attempts together; the rest of STARTUP_S is for the model to accept its configuration.
CONNECT_WITHIN_S = STARTUP_S - 2.0
# What a model may send before its call is there: an event or two.
MOST_SENT_BYTES = 64 << 10


def url_of(plan: CallPlan) -> str:
    """Return where the model is. A Live model is named in the first message instead."""
    if protocol_of(plan.model) == "live":
        return str(settings.OPENAI_LIVE_URL)
    base = plan.openai_base_url.rstrip("/").replace("https://", "wss://", 1)
    url = f"{base}/realtime" if base else settings.OPENAI_REALTIME_URL
    return f"{url}?model={quote(plan.model)}"


class ModelSide(Handler):
    """The model's socket. It may be open before there is a runner that it serves."""

    def __init__(self, call: Call) -> None:
        self.names = names_of(call)
        self._runner: CallRunner | None = None
        self._socket: Socket | None = None
        self._early: list[bytes] = []
        self._early_bytes = 0

    async def open(self, plan: CallPlan, within_s: float) -> None:
        """Open the socket; raise :class:`~telephony.voice.websocket.ConnectFailed`."""
        headers = credentials(plan.openai_base_url, plan.openai_api_key)
        await websocket.connect(url_of(plan), headers=headers, handler=self, timeout=within_s)

    def serve(self, runner: CallRunner) -> None:
        """Pass everything to the runner from now on, and first what has happened already."""
        self._runner = runner
        if self._socket is not None:
            runner.model_opened(self._socket)
        early, self._early = self._early, []
        for text in early:
            if not self.is_closed:  # the runner may leave the model because of the first
                runner.model_message(text)

    @property
    def is_closed(self) -> bool:
        """True once an open socket has closed."""
        return self._socket is not None and not self._socket.is_open

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def on_open(self, socket: Socket) -> None:
        self._socket = socket
        if self._runner is not None:
            self._runner.model_opened(socket)

    def on_message(self, text: bytes) -> None:
        if self._runner is not None:
            self._runner.model_message(text)
        else:
            self._keep(text)

    def _keep(self, text: bytes) -> None:
        self._early_bytes += len(text)
        if self._early_bytes <= MOST_SENT_BYTES:
            self._early.append(text)
        else:
            self.close()

    def on_close(self, code: int, reason: str) -> None:
        if self._runner is not None:
            self._runner.model_closed(code, reason)

    def on_blocked(self) -> None:
        if self._runner is not None:
            self._runner.model_blocked()

    def on_unblocked(self) -> None:
        if self._runner is not None:
            self._runner.model_unblocked()
