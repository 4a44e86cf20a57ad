"""The lower bound: a relay that forwards every frame unchanged, with picows on both sides.

Started by ``devtools.bench.relays``; writes its port to standard output and serves until its
standard input is closed, at the latest when its parent exits.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

_TEXT = WSMsgType.TEXT


class End(WSListener):
    """One end of a call; ``other`` is the transport of the far end, if there is one."""

    def __init__(self) -> None:
        self.other: WSTransport | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.other is not None:
            self.other.send(_TEXT, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.other is not None:
            self.other.disconnect()


class CallerEnd(End):
    """The end where a call arrives. It opens the other end."""

    def __init__(self, model_url: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._model_url = model_url
        self._tls = tls
        self._connecting: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._connecting = asyncio.create_task(self._connect(transport))

    async def _connect(self, caller: WSTransport) -> None:
        end = End()
        end.other = caller
        self.other, _ = await ws_connect(lambda: end, self._model_url, ssl_context=self._tls)


async def serve(model_url: str) -> None:
    tls = ssl.create_default_context() if model_url.startswith("wss:") else None
    server = await ws_create_server(
        lambda request: CallerEnd(model_url, tls), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
