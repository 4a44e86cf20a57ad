"""``bin/bench first-word``: how long a caller waits for the agent's first audio.

The wait begins with the media stream's start message and ends with the first audio that the engine
sends. The model responds at once, at the end of a network with a round trip: one each for TCP, TLS
and the upgrade, and one for the request and its first audio. Calls take turns: for one, the model's
socket is opened only with the stream, for the next when the TwiML is sent, and for the third the
greeting is in the cache. Reading it from the database is not part of the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import aiohttp
import uvloop
from aiohttp import web

from devtools.attack import certificates
from devtools.bench import frames
from devtools.bench.distance import far_away
from devtools.bench.engine import configure, listen
from devtools.ports import free_ports
from sandbox.model.server import PATH, ModelServer

if TYPE_CHECKING:
    from telephony.engine.plan import CallPlan
    from telephony.models import Call
    from telephony.voice.handover import Handed
    from telephony.voice.media import MediaListener

HOST = "localhost"
COLD, WARM = "with the stream", "with the TwiML"
CACHED = "greeting cached"
KINDS = (COLD, WARM, CACHED)
_HEARD_WITHIN_S = 10.0
_SILENCE = b"\xff" * 24_000  # three seconds


def main() -> None:
    options = _options()
    with TemporaryDirectory() as name:
        folder = Path(name)
        certificates.make(folder)
        os.environ["SSL_CERT_FILE"] = str(folder / certificates.AUTHORITY)
        [port] = free_ports(1)
        configure(f"wss://{HOST}:{port}{PATH}")
        waits = uvloop.run(_measure(options, folder, port))
    print(_table(options, waits))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench first-word", description=__doc__)
    parser.add_argument("--calls", type=int, default=30, help="calls of each kind (30)")
    parser.add_argument("--round-trip", type=float, default=60, help="to the model, in ms (60)")
    parser.add_argument(
        "--stream-after", type=float, default=300, help="ms from the TwiML to the stream (300)"
    )
    options = parser.parse_args()
    if options.calls < 2 or min(options.round_trip, options.stream_after) < 0:
        parser.error("calls must be 2 or more, and times 0 or more")
    return options


async def _measure(options: argparse.Namespace, folder: Path, port: int) -> dict[str, list[float]]:
    """Return the waits in milliseconds, by when the model's socket was opened."""
    waits: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with AsyncExitStack() as stack:
        model_port = await stack.enter_async_context(_model(folder))
        way = far_away(port, to=model_port, round_trip_s=options.round_trip / 1000)
        await stack.enter_async_context(way)
        calls = Calls()
        listener = await listen(calls.redeem)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        for number in range(len(KINDS) * (options.calls + 1)):
            kind = KINDS[number % len(KINDS)]
            if kind != COLD:
                calls.expect(number)
            calls.is_cached = kind == CACHED
            await asyncio.sleep(options.stream_after / 1000)
            wait = await _first_word(session, listener, number)
            if number >= len(KINDS):  # the first ones load what is loaded once
                waits[kind].append(wait * 1000)
        await listener.stop()
    return waits


class Calls:
    """The calls by their SID, in place of those in the database."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self.is_cached = False  # the greeting of the next call

    def expect(self, number: int) -> None:
        """Do what the webhook does with an accepted call."""
        from telephony.voice.warm_sockets import warm_sockets

        warm_sockets.expect(self._call(f"CA{number:032x}"), _plan())

    def redeem(self, started: Any, *_: Any) -> tuple[Call, Handed, list[str]]:
        from telephony.engine.spoken import SpokenGreeting
        from telephony.voice.handover import Handed

        greeting = SpokenGreeting(_SILENCE, "Hello.") if self.is_cached else None
        return self._call(started.call_sid), Handed(_plan(), greeting=greeting), []

    def _call(self, call_sid: str) -> Call:
        from telephony.models import Call

        return self._calls.setdefault(call_sid, Call(call_sid=call_sid, account_id="bench"))


def _plan() -> CallPlan:
    from telephony.engine.plan import CallPlan

    return CallPlan(
        twilio_account_sid=f"AC{0:032x}",
        twilio_auth_token="",
        openai_api_key="bench",
        system_prompt="Be brief.",
        greeting="Hello.",
    )


async def _first_word(
    session: aiohttp.ClientSession, listener: MediaListener, number: int
) -> float:
    """Start a call's stream, and return the seconds until its first audio."""
    loop = asyncio.get_running_loop()
    url = f"ws://127.0.0.1:{listener.port}/media"
    async with asyncio.timeout(_HEARD_WITHIN_S), session.ws_connect(url) as socket:
        await socket.send_bytes(frames.connected())
        began = loop.time()
        await socket.send_str(frames.start(number).decode())
        async for message in socket:
            if '"event":"media"' in message.data:
                wait = loop.time() - began
                break
        else:
            sys.exit("bin/bench: a call ended before its first word.")
    await listener.calls.wait_until_none()
    return wait


@asynccontextmanager
async def _model(folder: Path) -> AsyncIterator[int]:
    """Serve a model over TLS that responds at once; yield its port."""
    app = web.Application()
    ModelServer(pace=0, key=None).add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        tls = certificates.server_context(folder)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _table(options: argparse.Namespace, waits: dict[str, list[float]]) -> str:
    medians = {kind: statistics.median(each) for kind, each in waits.items()}
    rows = [
        f"{kind:18}{medians[kind]:11.1f} ms{statistics.quantiles(each, n=20)[-1]:9.1f} ms"
        for kind, each in waits.items()
    ]
    return "\n".join(
        [
            f"From the stream's start to the first audio: {options.calls} calls of each kind, a "
            f"round trip of\n{options.round_trip:g} ms to the model, and the stream "
            f"{options.stream_after:g} ms after the TwiML.\n",
            f"{'socket opened':18}{'p50':>14}{'p95':>12}",
            *rows,
            f"{'ratio':18}{medians[WARM] / medians[COLD]:11.2f}",
        ]
    )


if __name__ == "__main__":
    main()
