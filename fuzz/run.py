"""``bin/fuzz``: Schemathesis, with all its checks, against the whole product in the sandbox.

The product runs as ``bin/demo`` runs it, but on free ports and on a database that is made for the
run and dropped after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg import sql

from config.development import LOCAL_DIR, end_on_signals, serve
from config.postgres import embedded_url
from config.processes import Failed, Processes
from fuzz.customers import CUSTOMER, make_customers, write_credentials
from sandbox.demo.wire import DemoFailed

REQUESTS = 5000
# Schemathesis goes through the edges of all schemas with about so many requests, whatever it is
# told. The others are drawn, for each operation so many.
SYSTEMATIC_REQUESTS = 640
SHORT_REQUESTS = 700
# The same requests in each short run, or nearly: what it says of a change is about the change.
SHORT_SEED = 1
LOG = LOCAL_DIR / "fuzz.log"
REPORT = "report.json"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

# Of the caller's environment: no setting, so that everything is the sandbox's.
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR", "CI")
# Everybody registers and logs in from one address here.
NO_THROTTLE = dict.fromkeys(
    (
        "LOGINS_PER_ADDRESS",
        "LOGIN_FAILURES_PER_EMAIL",
        "REGISTRATIONS_PER_ADDRESS",
        "REGISTRATIONS_PER_EMAIL",
    ),
    "1000000",
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    try:
        LOCAL_DIR.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, own_database() as url:
            known = environment(url, Path(folder))
            os.environ.clear()
            os.environ.update(known)
            asyncio.run(_run(options, Path(folder)))
            sent = requests_sent(Path(folder))
        if sent < options.requests:
            raise Failed(f"{sent} requests were sent, and not {options.requests}.")
    except asyncio.CancelledError:
        sys.exit(130)
    except (Failed, DemoFailed, ImproperlyConfigured, psycopg.Error) as error:
        sys.exit(f"bin/fuzz: {error} What ran has its log in {LOG}.")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options: ``requests``, ``seed``, and ``others`` for Schemathesis."""
    parser = argparse.ArgumentParser(
        prog="bin/fuzz",
        description="Send generated requests to the whole API, and check all answers.",
        epilog="Other options are passed on: see `schemathesis run --help`.",
    )
    parser.add_argument("--requests", type=int, metavar="N", help=f"at least ({REQUESTS})")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_REQUESTS}, for every change")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    options, others = parser.parse_known_args(arguments)
    options.others = others
    if options.requests is not None and options.requests < 1:
        parser.error("requests must be more than 0")
    options.requests = options.requests or (SHORT_REQUESTS if options.short else REQUESTS)
    if options.seed is None and options.short:
        options.seed = SHORT_SEED
    return options


def examples_for(requests: int, operations: int) -> int:
    """Return how many requests to draw for an operation, so that all are as many at least."""
    # Of an operation with little to vary, some are skipped as repetitions.
    return max(1, math.ceil((requests - SYSTEMATIC_REQUESTS) / (operations * 0.9)))


@contextmanager
def own_database() -> Iterator[str]:
    """Make a database beside the one that would be used; yield its URL, and drop it at the end."""
    server = os.environ.get("DATABASE_URL") or embedded_url(LOCAL_DIR)
    name = f"switchhook_fuzz_{os.getpid()}"
    identifier = sql.Identifier(name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def environment(database_url: str, folder: Path) -> dict[str, str]:
    """Return all that the run's processes are to know: settings, and what the hooks need."""
    port, media_port, sandbox_port = map(str, _free_ports(3))
    return {
        **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        **NO_THROTTLE,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DEBUG": "1",
        "SANDBOX": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DATABASE_URL": database_url,
        "PORT": port,
        "MEDIA_PORT": media_port,
        "SANDBOX_PORT": sandbox_port,
        "FUZZ_URL": f"http://127.0.0.1:{port}",
        "FUZZ_BACKEND": f"http://127.0.0.1:{sandbox_port}/backend",
        "FUZZ_CREDENTIALS": str(folder / "credentials.json"),
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        return [
            sockets.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for _ in range(count)
        ]


async def _run(options: argparse.Namespace, folder: Path) -> None:
    with LOG.open("w") as log:
        async with Processes(log) as processes:
            end_on_signals(processes)
            await serve(processes)
            await processes.unless_one_ends(_fuzz(processes, options, folder))


async def _fuzz(processes: Processes, options: argparse.Namespace, folder: Path) -> None:
    from config.schema import document  # needs the settings

    url = os.environ["FUZZ_URL"]
    tokens = await make_customers(url)
    os.environ["FUZZ_TOKEN"] = tokens[CUSTOMER]
    write_credentials(Path(os.environ["FUZZ_CREDENTIALS"]), tokens)
    operations = sum(map(len, document()["paths"].values()))
    examples = examples_for(options.requests, operations)
    command = schemathesis(url, folder, examples=examples, seed=options.seed)
    await processes.run("schemathesis", *command, *options.others, own_output=True)


def schemathesis(url: str, folder: Path, *, examples: int, seed: int | None) -> list[str]:
    """Return the command: so many examples for each operation, and a report in the folder.

    Its status is 0 only if no check has failed and there is nothing to warn of.
    """
    return [
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}"),
        *("run", f"{url}/api/schema", f"--max-examples={examples}"),
        *([] if seed is None else [f"--seed={seed}"]),
        *("--report=json", f"--report-json-path={folder / REPORT}"),
    ]


def requests_sent(folder: Path) -> int:
    """Return how many, by Schemathesis's report; that none has failed says its status."""
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return int(report["test_cases"]["generated"])


if __name__ == "__main__":
    main()
