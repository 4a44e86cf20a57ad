"""``bin/bench deliveries``: how many callbacks a second one worker delivers.

On a database of its own, accounts have callbacks waiting, and one worker delivers them to a backend
that responds at once. In the same run, the same client posts as many bodies to the same backend
with the same signatures, but without the queue and the database. The ratio is what matters.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import TextIO, cast

from devtools.isolated import environment, own_database
from devtools.processes import ROOT, cpu_seconds

ACCOUNTS, DELIVERIES = 25, 5_000
AT_ONCE = 100  # as many deliveries as the accounts may have in progress
_WITHIN_S = 300.0
# As of two minutes.
_TURN = {"role": "user", "text": "Where is my order? " * 5, "timestamp": "2026-01-01T00:00:00Z"}
_TRANSCRIPT = [_TURN] * 20
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Sent:
    """How many requests arrived per second, and what each cost the sending process."""

    rate: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.rate:6.0f} a second, {self.cpu_ms:5.2f} ms of CPU each"


def main() -> None:
    options = _options()
    if options.of:
        sys.exit(_PARTS[options.of](options))
    with own_database("bench") as url:
        os.environ |= environment(url)
        with _backend() as backend:
            filling = _part("filling", options, f"--url={backend.url}")
            subprocess.run(filling, cwd=ROOT, check=True)
            posts = backend.measure(_part("posts", options, f"--url={backend.url}"), options.count)
            worker = [sys.executable, "manage.py", "worker", "--grace=5"]
            deliveries = backend.measure(worker, options.count)
    print(f"{options.count} callbacks of {options.accounts} accounts, to a backend that answers:\n")
    print(f"posted by the client alone   {posts}")
    print(f"delivered by one worker      {deliveries}")
    print(f"\nThe worker is {deliveries.rate / posts.rate:.2f} times as quick as the client alone.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench deliveries", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=DELIVERIES, help=f"callbacks to deliver ({DELIVERIES})"
    )
    parser.add_argument(
        "--accounts", type=int, default=ACCOUNTS, help=f"accounts that they belong to ({ACCOUNTS})"
    )
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.accounts < 1 or options.count < options.accounts:
        parser.error("accounts must be 1 or more, and count at least as many")
    return options


def _part(name: str, options: argparse.Namespace, *more: str) -> list[str]:
    own = [sys.executable, "-m", "devtools.bench.deliveries", f"--of={name}", *more]
    return [*own, f"--count={options.count}", f"--accounts={options.accounts}"]


class Backend:
    """The backend's process, which reports when it has the expected number of requests."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._output = cast(TextIO, process.stdout)
        self.url = f"http://127.0.0.1:{self._output.readline().strip()}"

    def measure(self, command: Sequence[str], count: int) -> Sent:
        """Start the sender; measure it after a tenth of the requests, when it is warm."""
        commands = cast(TextIO, self._process.stdin)
        commands.write(f"{count // 10} {count}\n")
        commands.flush()
        with subprocess.Popen(command, cwd=ROOT) as sender:
            began = float(self._output.readline())
            cpu = cpu_seconds(sender.pid)
            ended = float(self._output.readline())
            cpu = cpu_seconds(sender.pid) - cpu
            sender.send_signal(signal.SIGTERM)
        measured = count - count // 10
        return Sent(measured / (ended - began), cpu * 1000 / measured)


@contextmanager
def _backend() -> Iterator[Backend]:
    command = [sys.executable, "-m", "devtools.bench.deliveries", "--of=backend"]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            yield Backend(process)
        finally:
            process.terminate()


def _serve(options: argparse.Namespace) -> None:
    import uvloop

    uvloop.run(_answer())


async def _answer() -> None:
    loop = asyncio.get_running_loop()
    counter = _Counter()
    server = await loop.create_server(lambda: _Connection(counter), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        counter.begin(*map(int, line.split()))


class _Counter:
    """Reports when the first and the last of the measured requests have arrived."""

    def __init__(self) -> None:
        self._said_at: set[int] = set()
        self._count = 0

    def begin(self, first: int, last: int) -> None:
        self._said_at, self._count = {first, last}, 0

    def add(self) -> None:
        self._count += 1
        if self._count in self._said_at:
            print(time.monotonic(), flush=True)


class _Connection(asyncio.Protocol):
    """As little HTTP as aiohttp's client needs: a request ends when its body has arrived."""

    def __init__(self, counter: _Counter) -> None:
        self._counter = counter
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._data = body[length:]
            self._transport.write(_ANSWER)
            self._counter.add()


def _fill(options: argparse.Namespace) -> None:
    """Give each account calls whose onCallEnd is pending."""
    import django

    django.setup()
    from django.db import transaction
    from django.utils import timezone

    from accounts.models import Account
    from telephony.callbacks import outbox
    from telephony.models import Call

    for number in range(options.accounts):
        account = Account.objects.create_user(f"bench-{number}@example.com", None)
        with transaction.atomic():
            for index in range(number, options.count, options.accounts):
                call = Call.objects.create(
                    account=account,
                    call_sid=f"CA{index:032x}",
                    direction=Call.Direction.INBOUND,
                    status=Call.Status.COMPLETED,
                    ended_at=timezone.now(),
                    on_call_end_url=f"{options.url}/calls/end",
                )
                body = {"callSid": call.call_sid, "transcript": _TRANSCRIPT}
                outbox.enqueue_call_end(call, body)


def _post(options: argparse.Namespace) -> None:
    import django
    import uvloop

    django.setup()
    uvloop.run(_post_all(options.url, options.count))


async def _post_all(url: str, count: int) -> None:
    """Post as a worker does, but without the database; then wait to be killed."""
    from django.utils import timezone

    from telephony.callbacks import client, outbox, signing

    body = outbox.payloads.encode({"callSid": "CA", "transcript": _TRANSCRIPT})
    left = iter(range(count))

    async def post_some() -> None:
        for number in left:
            headers = signing.headers(
                body, secrets=["whsec_" + "A" * 32], message_id=f"msg_{number}", now=timezone.now()
            )
            await client.post(f"{url}/calls/end", body, headers, timeout=outbox.TIMEOUT_SECONDS)

    await asyncio.gather(*(post_some() for _ in range(AT_ONCE)))
    await asyncio.sleep(_WITHIN_S)


_PARTS = {"backend": _serve, "filling": _fill, "posts": _post}


if __name__ == "__main__":
    main()
