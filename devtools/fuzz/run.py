"""``bin/fuzz``: Schemathesis, with every check, against the isolated product in the sandbox.

See ``devtools.isolated``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devtools.fuzz.customers import CUSTOMER, make_customers, write_credentials
from devtools.isolated import run_isolated
from devtools.processes import Failed, Processes
from sandbox.demo.wire import DemoFailed

REQUESTS = 5000
# Schemathesis covers the edges of all schemas with about this many requests, whatever the options.
# It generates the others, with a fixed number for each operation.
SYSTEMATIC_REQUESTS = 640
SHORT_REQUESTS = 700
# Short runs send nearly the same requests, so that a new failure is due to a change.
SHORT_SEED = 1
REPORT = "report.json"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run_isolated("fuzz", lambda processes: _fuzz(processes, options, Path(folder)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options: ``requests``, ``seed``, and ``others`` for Schemathesis."""
    parser = argparse.ArgumentParser(
        prog="bin/fuzz",
        description="Send generated requests to the whole API, and check every response.",
        epilog="Other options are passed on: see `schemathesis run --help`.",
    )
    parser.add_argument("--requests", type=int, metavar="N", help=f"send at least N ({REQUESTS})")
    parser.add_argument("--short", action="store_true", help=f"send {SHORT_REQUESTS} requests")
    parser.add_argument("--seed", type=int, help="repeat the run with this seed")
    options, others = parser.parse_known_args(arguments)
    options.others = others
    if options.requests is not None and options.requests < 1:
        parser.error("requests must be more than 0")
    options.requests = options.requests or (SHORT_REQUESTS if options.short else REQUESTS)
    if options.seed is None and options.short:
        options.seed = SHORT_SEED
    return options


def examples_for(requests: int, operations: int) -> int:
    """Return how many requests to generate per operation, for at least ``requests`` in total."""
    # Schemathesis skips repetitions, in operations with few variations.
    return max(1, math.ceil((requests - SYSTEMATIC_REQUESTS) / (operations * 0.9)))


async def _fuzz(processes: Processes, options: argparse.Namespace, folder: Path) -> None:
    from core.schema import document  # needs the settings

    url = os.environ["ISOLATED_URL"]
    try:
        tokens = await make_customers(url)
    except DemoFailed as failure:
        raise Failed(str(failure)) from None
    os.environ["FUZZ_TOKEN"] = tokens[CUSTOMER]
    os.environ["FUZZ_CREDENTIALS"] = str(folder / "credentials.json")
    write_credentials(folder / "credentials.json", tokens)
    operations = sum(map(len, document()["paths"].values()))
    examples = examples_for(options.requests, operations)
    command = schemathesis(url, folder, examples=examples, seed=options.seed)
    await processes.run("schemathesis", *command, *options.others, own_output=True)
    if (sent := requests_sent(folder)) < options.requests:
        raise Failed(f"{sent} requests were sent, and not {options.requests}.")


def schemathesis(url: str, folder: Path, *, examples: int, seed: int | None) -> list[str]:
    """Return the command, with this many examples per operation and a report in the folder.

    Its status is 0 only if no check has failed and there are no warnings.
    """
    return [
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}"),
        *("run", f"{url}/api/schema", f"--max-examples={examples}"),
        *([] if seed is None else [f"--seed={seed}"]),
        *("--report=json", f"--report-json-path={folder / REPORT}"),
    ]


def requests_sent(folder: Path) -> int:
    """Return the number of requests in Schemathesis's report."""
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return int(report["test_cases"]["generated"])


if __name__ == "__main__":
    main()
