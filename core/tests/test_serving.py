"""The workers of both processes, in a real gunicorn."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from core.tests.waiting import until
from core.tests.web import is_free

ROOT = Path(__file__).resolve().parents[2]

# Drains for longer than the arbiter waits for a heartbeat, and responds with the worker's PID.
APPLICATION = """
import asyncio, os

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("draining", flush=True)
        await asyncio.sleep(2.5)
        print("drained", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

# By then, the worker's own loop has noticed the signals, which it checks once a second.
LONG_DRAIN = """sleep(1.5)
        print("still draining", flush=True)
        await asyncio.sleep(600)"""

# Blocks its only thread until a probe arrives.
BUSY = """
import threading

probed = threading.Event()

def application(environ, start_response):
    if environ["PATH_INFO"] == "/livez":
        probed.set()
    else:
        print("waiting", flush=True)
        probed.wait(20)
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def test_a_probe_does_not_wait_for_busy_threads(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        gunicorn = start_gunicorn(
            tmp_path, listening.fileno(), "busy:application", "web_worker.WebWorker", "--threads=1"
        )
    with gunicorn, ThreadPoolExecutor() as threads:
        try:
            answer = threads.submit(get, port)
            assert line_with(gunicorn, "waiting")
            get(port, "/livez", within=10)
            answer.result(10)
        finally:
            gunicorn.send_signal(signal.SIGQUIT)


def test_a_draining_worker_serves_requests_and_sends_heartbeats(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow_to_drain.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        gunicorn = start_gunicorn(
            tmp_path, listening.fileno(), "slow_to_drain:application", "engine_worker.EngineWorker"
        )
    with gunicorn:
        try:
            worker = int(get(port))
            os.kill(worker, signal.SIGTERM)
            assert line_with(gunicorn, "draining")
            assert get(port)
            assert line_with(gunicorn, "drained", "TIMEOUT") == "drained"
        finally:
            gunicorn.send_signal(signal.SIGQUIT)


@pytest.mark.parametrize("told", [None, signal.SIGTERM, signal.SIGHUP])
def test_a_draining_worker_without_an_arbiter_closes_its_listeners(
    tmp_path: Path, told: signal.Signals | None
) -> None:
    """It drains because the arbiter died, or since an earlier SIGTERM (stop) or SIGHUP (reload)."""
    (tmp_path / "drains.py").write_text(APPLICATION.replace("sleep(2.5)", LONG_DRAIN))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        gunicorn = start_gunicorn(
            tmp_path, listening.fileno(), "drains:application", "engine_worker.EngineWorker"
        )
    with gunicorn:
        worker = int(get(port))
        try:
            if told is not None:
                gunicorn.send_signal(told)
                assert line_with(gunicorn, "still draining")
            gunicorn.kill()
            asyncio.run(until(lambda: is_free(port), within=15))
            assert psutil.Process(worker).status() != psutil.STATUS_ZOMBIE
        finally:
            os.killpg(gunicorn.pid, signal.SIGKILL)


def start_gunicorn(
    folder: Path, listening: int, application: str, worker: str, *options: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", application, *options),
            *(f"--worker-class=core.serving.{worker}", f"--pythonpath={folder}"),
            *("--timeout=1", "--graceful-timeout=30", "--no-control-socket"),
            f"--bind=fd://{listening}",
        ],
        cwd=ROOT,
        pass_fds=[listening],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def line_with(process: subprocess.Popen[str], *texts: str) -> str:
    """Return the next line of the output that contains one of the texts."""
    assert process.stdout is not None
    return next(
        line for line in map(str.strip, process.stdout) if any(text in line for text in texts)
    )


def get(port: int, path: str = "/", *, within: float = 20) -> bytes:
    """Send a GET, which the open port queues until the server runs; return the body."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=within) as response:
        return bytes(response.read())
