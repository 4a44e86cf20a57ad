"""``bin/dev`` and ``bin/demo``: the whole product in the foreground of a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from devtools.postgres import embedded_url
from devtools.processes import Failed, Processes
from devtools.running import addresses_of, announced

LOCAL_DIR = Path(__file__).resolve().parent.parent / ".local"
DEMO_LOG = LOCAL_DIR / "demo.log"

_READY_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.1


async def serve(processes: Processes) -> None:
    """Start PostgreSQL, migrate, start every process, and return when they are ready."""
    from django.conf import settings

    _check_ports(settings)
    manage = (sys.executable, "manage.py")
    addresses = [f"http://127.0.0.1:{settings.PORT}/readyz"]
    if settings.SANDBOX:
        await processes.start("sandbox", *manage, "sandbox")
        addresses.append(f"http://127.0.0.1:{settings.SANDBOX_PORT}/livez")
    await processes.run("migrate", *manage, "migrate", "--no-input")
    await processes.start(
        "server", sys.executable, "-m", "gunicorn", "--config=config/gunicorn.conf.py"
    )
    await processes.start("worker", *manage, "worker", "--grace=3")
    if settings.STRIPE_SANDBOX:  # while they start
        await processes.run("setup", *manage, "setup_stripe")
    await processes.unless_one_ends(_until_ready(addresses))


def _check_ports(settings: Any) -> None:
    ports = {"web": settings.PORT, "media": settings.MEDIA_PORT}
    if settings.SANDBOX:
        ports["sandbox"] = settings.SANDBOX_PORT
    for what, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise Failed(
                    f"Port {port} ({what}) cannot be used ({error.strerror}): set PORT to the "
                    "first of three free ports in a row."
                ) from None


async def _until_ready(addresses: Sequence[str]) -> None:
    for address in addresses:
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await _until_it_answers(address)
        except TimeoutError:
            raise Failed(f"{address} did not respond within {_READY_WITHIN_S:.0f} s.") from None


async def _until_it_answers(address: str) -> None:
    while True:
        if await asyncio.to_thread(_answers, address):
            return
        await asyncio.sleep(_LOOK_AGAIN_S)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:  # noqa: S310 # nosec B310 # our own
            return bool(response.status == 200)
    except OSError:
        return False


def _set_up() -> None:
    """Load the settings, with one PostgreSQL for all processes."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or embedded_url(LOCAL_DIR)
    from django.conf import settings

    # All processes are at these addresses, also if another program of this checkout is running.
    os.environ.update(addresses_of(settings))


async def dev(processes: Processes) -> None:
    from django.conf import settings

    await serve(processes)
    with announced(LOCAL_DIR, addresses_of(settings)):
        processes.say("dev", f"Ready: {settings.PUBLIC_URL} (Ctrl-C ends it)")
        await processes.unless_one_ends(asyncio.Event().wait())


async def demo(processes: Processes, *, once: bool) -> None:
    from django.conf import settings

    if not settings.STRIPE_SANDBOX:
        raise Failed("The demo pays in the payments sandbox: unset STRIPE_SECRET_KEY for it.")
    await serve(processes)
    command = [sys.executable, "manage.py", "demo", *(["--once"] if once else [])]
    await processes.unless_one_ends(processes.run("demo", *command, own_output=True))
    if not once:
        with announced(LOCAL_DIR, addresses_of(settings)):
            await processes.unless_one_ends(asyncio.Event().wait())


def end_on_signals(processes: Processes) -> None:
    """Cancel this task on the first signal, and kill the processes on the next."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_ending = False

    def end(_number: int, _frame: object) -> None:
        nonlocal is_ending
        if is_ending:
            processes.kill()
        elif task is not None:
            is_ending = True
            loop.call_soon_threadsafe(task.cancel)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


async def _run(mode: str, *, once: bool) -> None:
    with contextlib.ExitStack() as files:
        output = sys.stdout if mode == "dev" else files.enter_context(DEMO_LOG.open("w"))
        async with Processes(output) as processes:
            end_on_signals(processes)
            await asyncio.to_thread(_set_up)
            await (dev(processes) if mode == "dev" else demo(processes, once=once))


def main(mode: str, *options: str) -> None:
    if mode == "demo":
        os.environ.update(DEBUG="1", SANDBOX="1")
        sys.stdout.write("Starting PostgreSQL, the server, a worker and the sandbox …\n\n")
        sys.stdout.flush()
    try:
        LOCAL_DIR.mkdir(exist_ok=True)
        asyncio.run(_run(mode, once="--once" in options))
    except asyncio.CancelledError:
        sys.exit(130 if "--once" in options else 0)
    except PermissionError as error:
        sys.exit(f"bin/{mode}: {error.filename} belongs to another user: run this as that user.")
    except (Failed, ImproperlyConfigured) as error:
        see = f" The log is {DEMO_LOG}." if mode == "demo" and DEMO_LOG.exists() else ""
        sys.exit(f"bin/{mode}: {error}{see}")


if __name__ == "__main__":
    main(*sys.argv[1:])
