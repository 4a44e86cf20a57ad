"""``bin/bench loop``: how long hostile backends block an engine's event loop.

Ten backends respond at once, as hostile as ``sandbox.backend.hostile`` can be, and a timer on the
same event loop measures how late it fires. Ten ordinary backends do the same before and after,
because anything else on the machine delays a timer too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import Any, TextIO, cast

import uvloop

from devtools.bench.engine import configure
from sandbox.backend import hostile

AT_ONCE = 10
GOOD_MS = 50.0
BEAT_S = 0.001
TOOL = "tool-"  # precedes the name of a response to onToolCall

Ask = Callable[[str], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True)
class Backends:
    """The address of the backends, and the names of their hostile responses."""

    url: str
    names: Sequence[str]


def main() -> None:
    options = _options()
    if options.of:
        asyncio.run(_serve())
        return
    configure("ws://127.0.0.1:1/v1/realtime")
    import telephony.voice.media  # noqa: F401 (everything that an engine loads)

    gc.collect()
    gc.freeze()  # as an engine does
    with _backends() as backends:
        sys.exit(uvloop.run(_measure(backends, options.rounds)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds of ten backends each (10)")
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("rounds must be 1 or more")
    return options


@contextmanager
def _backends() -> Iterator[Backends]:
    """Serve the backends from another process, which needs much memory for its responses."""
    command = [sys.executable, "-m", "devtools.bench.loop", "--of=backends"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        port, *names = cast(TextIO, process.stdout).readline().split()
        try:
            yield Backends(f"http://127.0.0.1:{port}", names)
        finally:
            process.terminate()


async def _serve() -> None:
    tools = {f"{TOOL}{name}": response for name, response in hostile.results().items()}
    responses = hostile.answers() | tools
    names = [name for name in responses if not name.endswith(hostile.ORDINARY)]
    async with await hostile.serve(responses) as server:
        print(server.sockets[0].getsockname()[1], *names, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _measure(backends: Backends, rounds: int) -> int:
    """Print the figures; return 1 if the loop was blocked for too long."""
    ask, names = _asking(backends.url), list(backends.names)
    ordinary = [hostile.ORDINARY] * AT_ONCE
    await _longest_block(ask, ordinary)  # warms up what is created once, such as TLS's authorities
    memory = _memory_mb()
    blocks: dict[str, list[float]] = {"ordinary": [], "hostile": []}
    for number in range(rounds):
        turned = names[number * 3 % len(names) :] + names
        blocks["ordinary"].append(await _longest_block(ask, ordinary))
        blocks["hostile"].append(await _longest_block(ask, turned[:AT_ONCE]))
    print(f"\nThe event loop's longest block, while {AT_ONCE} backends answer at once:\n")
    for kind, found in blocks.items():
        print(
            f"{kind:10} {max(found):6.1f} ms, in the median of {rounds} rounds "
            f"{statistics.median(found):.1f} ms"
        )
    print(f"\nMemory grew by {_memory_mb() - memory:.0f} MB at most.")
    is_good = max(blocks["hostile"]) <= GOOD_MS
    print(f"The longest is {'under' if is_good else 'OVER'} {GOOD_MS:.0f} ms.")
    return int(not is_good)


def _asking(url: str) -> Ask:
    """Return a function that asks a backend as the engine does, and accepts any response."""
    from telephony.callbacks.on_call_start import CallStartFailed, ask
    from telephony.callbacks.payloads import CallFacts
    from telephony.callbacks.tools import ToolFailed, run_tool

    facts = CallFacts("CA" + "0" * 32, "+15551234567", "+15557654321", "inbound")
    secrets = ["whsec_" + "A" * 32]

    async def asked(name: str) -> object:
        at = f"{url}/{name}"
        try:
            if name.startswith(TOOL):
                return await run_tool(at, facts, name="look_up", arguments={}, secrets=secrets)
            return await ask(at, facts, secrets=secrets, message_id="msg_1")
        except (CallStartFailed, ToolFailed) as failure:
            return failure

    return asked


async def _longest_block(ask: Ask, names: Sequence[str]) -> float:
    """Return the longest time that the loop was blocked, in milliseconds."""
    async with _beating() as late:
        await asyncio.gather(*map(ask, names))
    return max(late) * 1000


@asynccontextmanager
async def _beating() -> AsyncIterator[list[float]]:
    """Fire a timer every millisecond; yield how late it was, in seconds."""
    loop = asyncio.get_running_loop()
    late: list[float] = []

    is_over = False

    def ring(due: float) -> None:
        now = time.perf_counter()
        late.append(now - due)
        if not is_over:
            loop.call_later(BEAT_S, ring, now + BEAT_S)

    ring(time.perf_counter())
    try:
        yield late
        await asyncio.sleep(2 * BEAT_S)
    finally:
        is_over = True


def _memory_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
