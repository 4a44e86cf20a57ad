"""``bin/bench pages``: the cost of pages with a million calls, compared with ten.

Both accounts are filled in an isolated product. Each page is requested within one process, as its
account: the time is the server's, from the request to the complete response.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devtools.isolated import run_isolated
from devtools.processes import Processes

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import Account

MANY, FEW, TIMES = 1_000_000, 10, 5
QUICK_MS = 100.0
# A list that is empty with ten calls saves the queries for its rows.
SPARED = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """The median time of a page on the server, and the number of its queries."""

    ms: float
    queries: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The cost of a page for both accounts; ``status`` is the worst status it returned."""

    name: str
    status: int
    many: Cost
    few: Cost

    @property
    def is_good(self) -> bool:
        """Return True if it is fast, and more calls do not cause more queries."""
        return self.status == 200 and self.many.ms < QUICK_MS and not self.asks_more

    @property
    def asks_more(self) -> bool:
        return self.many.queries > self.few.queries + SPARED


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    if options.of:
        sys.exit(_measure(options.calls, options.times))
    own = [*(sys.executable, "-m", "devtools.bench.pages"), "--of=isolated"]
    own += [f"--calls={options.calls}", f"--times={options.times}"]

    async def work(processes: Processes) -> None:
        await processes.run("pages", *own, own_output=True)

    run_isolated("bench", work)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench pages", description=__doc__)
    parser.add_argument(
        "--calls", type=int, default=MANY, help="calls of the larger account (1000000)"
    )
    parser.add_argument("--times", type=int, default=TIMES, help="requests per page (5)")
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.calls <= FEW or options.times < 1:
        parser.error(f"calls must be more than {FEW}, and times 1 or more")
    return options


def _measure(calls: int, times: int) -> int:
    """Return 1 unless all pages are good."""
    import django
    from django.conf import settings

    django.setup()
    accounts = [_make(f"{count}@example.com", count) for count in (calls, FEW)]
    settings.DEBUG = False  # which would keep every query
    logging.getLogger("django.request").setLevel(logging.CRITICAL)  # a line of ours tells it
    comparisons = []
    print(f"\nServer time (median of {times}) and queries, with {calls:,} calls and with {FEW}:\n")
    for comparison in compare(accounts[0], accounts[1], times):
        print(line_of(comparison), flush=True)
        comparisons.append(comparison)
    found = [each for each in comparisons if each.status != 404]
    good = sum(each.is_good for each in found)
    print(f"\n{good} of {len(found)} are under {QUICK_MS:.0f} ms, and ask no more often.")
    return int(good < len(found))


def _make(email: str, calls: int) -> Account:
    """Return a new account with this many calls."""
    from django.core.management import call_command

    from accounts.models import Account

    account = Account.objects.create_user(email, status=Account.Status.ACTIVE)
    call_command("fill_calls", account=email, calls=calls)
    return account


def compare(many: Account, few: Account, times: int) -> Iterator[Comparison]:
    """Yield the cost of each page for the two accounts."""
    from devtools.bench.places import places_of

    clients = [client_of(account) for account in (many, few)]
    paths = [places_of(account) for account in (many, few)]
    for name in paths[0]:
        asked = [
            _cost(client, known[name], times) for client, known in zip(clients, paths, strict=True)
        ]
        status = max(each for each, _ in asked)
        yield Comparison(name, status, asked[0][1], asked[1][1])


def client_of(account: Account) -> Client:
    """Return a client that is signed in and sends an API key."""
    from django.test import Client

    from accounts.services import api_key_create

    key = api_key_create(account=account, label="Benchmark").plain
    client = Client(SERVER_NAME="127.0.0.1", HTTP_AUTHORIZATION=f"Bearer {key}")
    client.force_login(account)
    return client


def _cost(client: Client, path: str, times: int) -> tuple[int, Cost]:
    """Request once to warm up, once to count queries, and then ``times`` times to measure."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    headers = {"HX-Request": "true"} if path == "/dashboard/live" else {}
    status = client.get(path, headers=headers).status_code
    if status != 200:
        return status, Cost(0.0, 0)
    with CaptureQueriesContext(connection) as captured:
        client.get(path, headers=headers)
        queries = len(captured)  # the next request forgets them
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        client.get(path, headers=headers)
        taken.append((time.perf_counter() - start) * 1000)
    return status, Cost(statistics.median(taken), queries)


def line_of(comparison: Comparison) -> str:
    name = f"{comparison.name:<34}"
    if comparison.status == 404:
        return f"{name} skipped: this page does not exist (404)"
    if comparison.status != 200:
        return f"{name} FAILED: it answers {comparison.status}"
    many, few = comparison.many, comparison.few
    verdict = "ok" if many.ms < QUICK_MS else f"SLOW: over {QUICK_MS:.0f} ms"
    if comparison.asks_more:
        verdict += ", ASKS MORE"
    times = f"{many.ms:8.1f} ms {few.ms:8.1f} ms {many.ms / few.ms:7.2f}x"
    return f"{name}{times}   queries {many.queries:2} and {few.queries:2}   {verdict}"


if __name__ == "__main__":
    main()
