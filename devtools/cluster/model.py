"""A stand-in for OpenAI that says what it hears, light enough for hundreds of calls.

As a program, it writes its port to standard output, and exits when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from devtools.bench.load import ModelServer


async def _serve() -> None:
    async with ModelServer() as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
