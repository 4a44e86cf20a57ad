"""The engine's worker, in a real gunicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Drains for longer than the arbiter waits for a heartbeat, and answers with the worker's pid.
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


def test_a_worker_that_drains_serves_on_and_is_not_taken_for_one_that_hangs(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow_to_drain.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        gunicorn = start_gunicorn(tmp_path, listening.fileno())
    with gunicorn:
        try:
            worker = int(get(port))
            os.kill(worker, signal.SIGTERM)
            assert line_with(gunicorn, "draining")
            assert get(port)
            assert line_with(gunicorn, "drained", "TIMEOUT") == "drained"
        finally:
            gunicorn.send_signal(signal.SIGQUIT)


def start_gunicorn(folder: Path, listening: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "slow_to_drain:application"),
            *("--worker-class=config.serving.EngineWorker", f"--pythonpath={folder}"),
            *("--timeout=1", "--graceful-timeout=30", "--no-control-socket"),
            f"--bind=fd://{listening}",
        ],
        cwd=ROOT,
        pass_fds=[listening],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def line_with(process: subprocess.Popen[str], *texts: str) -> str:
    """Return the next line of the output that has one of the texts in it."""
    assert process.stdout is not None
    return next(
        line for line in map(str.strip, process.stdout) if any(text in line for text in texts)
    )


def get(port: int) -> bytes:
    """Wait for the server (the port listens already) and return its answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as response:
        return bytes(response.read())
