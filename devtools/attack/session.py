"""One run inside its network: start everything, attack every area, report."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import aiohttp

from devtools.attack import namespace, people, run
from devtools.attack.areas import AT_THE_END, BESIDE_OTHERS, NAMES
from devtools.attack.certificates import AUTHORITY, server_context
from devtools.attack.context import Context, NotConnected
from devtools.attack.internet import HOSTS, Internet
from devtools.attack.mailbox import Mailbox
from devtools.attack.product import (
    ENGINE,
    MEDIA,
    PORTS,
    SECOND_ENGINE,
    WEB,
    WORKER,
    Product,
    in_namespace,
)
from devtools.attack.report import Report
from devtools.attack.tls_proxy import TlsProxy
from devtools.attack.voice import plan
from devtools.attack.web import Client, web_client
from devtools.processes import ROOT, Failed

ADDRESSES = {
    "product": namespace.PRODUCT,
    "backends": namespace.BACKEND,
    "twilio": namespace.TWILIO,
    "openai": namespace.OPENAI,
    "stripe": namespace.STRIPE,
}


def main() -> None:
    options = run.parse()
    report = Report(most_shown=most_shown(options))
    run_and_report("attack", options, report, _play(options, report))


def most_shown(options: argparse.Namespace) -> int:
    """Return how many findings of a kind to show."""
    return 10**6 if options.all else 3


def run_and_report(
    program: str, options: argparse.Namespace, report: Report, work: Coroutine[Any, Any, None]
) -> None:
    """Do the work and write its report; exit with status 1 if there are findings."""
    try:
        asyncio.run(work)
    except asyncio.CancelledError:
        sys.exit(143)
    except Failed as failure:
        sys.exit(f"bin/{program}: {failure}")
    report.write()
    sys.stdout.write(f"Seed {options.seed}. Logs of the processes: {logs()}\n")
    sys.exit(1 if report.findings else 0)


def logs() -> Path:
    return Path(os.environ["ATTACK_LOGS"])


def _end_with_whoever_started_this() -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer's lock would block our own exit
    os.kill(os.getpid(), signal.SIGTERM)


def end_in_time() -> None:
    """Cancel the current task on SIGTERM, also sent when our parent has exited."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    Thread(target=_end_with_whoever_started_this, daemon=True).start()


async def _play(options: argparse.Namespace, report: Report) -> None:
    end_in_time()
    async with AsyncExitStack() as stack:
        context = await set_up(stack, options, report)
        await people.assemble(context)
        if context.is_apart:
            await _a_call_goes_through(context)
        _say(f"ready after {time.monotonic() - _BEGAN:.0f} s")
        await _all_areas(context, options.areas)


async def set_up(
    stack: AsyncExitStack,
    options: argparse.Namespace,
    report: Report,
    variables: dict[str, dict[str, str]] | None = None,
    *,
    names: Sequence[str] = (*PORTS, WORKER),
    has_proxy: bool = True,
    root: Path = ROOT,
    python: str = sys.executable,
) -> Context:
    """Start everything; the stack stops it.

    :param variables: additional environment variables, by process.
    :param names: the processes to start.
    :param has_proxy: whether the run's own proxy terminates TLS; otherwise another one must.
    :param root: the checkout whose code they run, by ``python``.
    """
    folder, is_apart = Path(os.environ["ATTACK_FOLDER"]), bool(os.environ["ATTACK_APART"])
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ATTACK_")
    }
    internet, mailbox = Internet(), Mailbox()
    ports = await internet.start()
    stack.push_async_callback(internet.close)
    environment["EMAIL_URL"] = f"smtp://127.0.0.1:{await mailbox.start()}"
    tls_proxy = TlsProxy(server_context(folder), _upstreams(ports))
    if is_apart:
        environment = in_namespace(environment, folder / AUTHORITY)
        _make_network(folder)
        if has_proxy:
            await tls_proxy.start()
            stack.push_async_callback(tls_proxy.close)
    product = Product(environment, logs(), variables or {}, root=root, python=python)
    stack.callback(product.end)
    for log in product.logs.glob("*.log"):
        log.unlink()
    await product.start(names)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
    )
    return Context(
        product=product,
        internet=internet,
        tls_proxy=tls_proxy,
        mailbox=mailbox,
        session=session,
        web=web_client(session),
        engine=Client(session, ENGINE, "engine.example.com"),
        second_engine=Client(session, SECOND_ENGINE, "engine.example.com"),
        report=report,
        random=random.Random(options.seed),  # noqa: S311 (so that it can be repeated)
        is_short=options.short,
        is_apart=is_apart,
    )


def _make_network(folder: Path) -> None:
    from devtools.attack.areas import ssrf

    names = [(ADDRESSES[part], host) for host, part in HOSTS.items()]
    namespace.set_up([*names, *ssrf.NAMES], folder)
    # Stripe's library has its own list of trusted authorities.
    import stripe

    namespace.replace_file(Path(stripe.ca_bundle_path), folder / AUTHORITY)


def _upstreams(ports: dict[str, int]) -> dict[str, int]:
    ours = {
        "app.example.com": WEB,
        "engine.example.com": ENGINE,
        "media.example.com/media": MEDIA,
    }
    return ours | {host: ports[part] for host, part in HOSTS.items() if part in ports}


async def _a_call_goes_through(context: Context) -> None:
    """Make an ordinary call: a product that refuses everything would have no findings."""
    from sandbox.phone.exchange import Phone
    from sandbox.phone.line import LineClosed

    line = await people.make_line(context, context.people["alice"])
    line.desk.answer = plan(line.twilio, model="gpt-realtime-1.5", greeting="Hello.")
    url = f"https://{context.engine.host}/voice"
    sid, token = line.twilio.sid, line.twilio.token
    async with Phone(voice_url=url, account_sid=sid, auth_token=token) as phone:
        call = phone.ring(to=line.number)
        try:
            await asyncio.wait_for(call.person.hears("Hello."), 20)
        except (TimeoutError, AssertionError, LineClosed):
            why = [event for event in call.journal.events if event.kind != "request"][-3:]
            raise Failed(f"An ordinary call did not go through: {why}") from None
        call.person.hang_up()


async def _all_areas(context: Context, chosen: list[str]) -> None:
    """Run areas that only wait together, those that measure alone, and the logs' at the end."""
    together = [name for name in NAMES if name in chosen and name in BESIDE_OTHERS]
    alone = [name for name in NAMES if name in chosen and name not in BESIDE_OTHERS + AT_THE_END]
    await asyncio.gather(*(_one_area(context, name) for name in together))
    for name in alone:
        await _one_area(context, name)
    for outcome in await asyncio.gather(*context.late, return_exceptions=True):
        if isinstance(outcome, BaseException):
            _broke(context, "late", outcome)
    for name in AT_THE_END:
        if name in chosen:
            await _one_area(context, name)


async def _one_area(context: Context, name: str) -> None:
    area: Any = module_named(f"devtools.attack.areas.{name}")
    if area.NEEDS_NETWORK and not context.is_apart:
        context.report.skipped[name] = "it needs its own network (unshare --net and ip)"
        return
    began = time.monotonic()
    try:
        await area.attack(context, context.notes(name))
    except NotConnected as failure:
        context.notes(name).expect("An ordinary call is connected.", False, came=failure)
    except Exception as error:
        _broke(context, name, error)
    _say(f"{name}: {time.monotonic() - began:.0f} s")


def _broke(context: Context, name: str, error: BaseException) -> None:
    """Record a finding for an area that could not finish: its other cases were not tried."""
    where = "".join(traceback.format_exception(error)[-3:])
    sys.stderr.write(where)
    context.notes(name).expect("The area runs to its end.", False, came=where)


def module_named(path: str) -> ModuleType:
    """Return an area or an experiment; tests of this program replace it."""
    if instead := os.environ.get("ATTACK_INSTEAD"):
        spec = importlib.util.spec_from_file_location(path, instead)
        if spec and spec.loader:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module(path)


def _say(line: str) -> None:
    sys.stderr.write(f"bin/attack: {line}\n")


_BEGAN = time.monotonic()

if __name__ == "__main__":
    main()
