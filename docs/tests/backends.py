"""The backends of the guides, as processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def listening(
    command: Sequence[str | Path], *, secret: str, errors: IO[str] | None = None
) -> Iterator[str]:
    """Run a backend, with the environment that the guides tell readers to set; yield its URL.

    :param errors: where its standard error goes, if not to ours.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "WEBHOOK_SECRET": secret,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "OPENAI_API_KEY": "sk-1",
        "BACKEND_URL": "https://your-backend.com",
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        assert process.stdout
        assert f":{port}" in process.stdout.readline()  # it prints this when it listens
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None
        process.kill()
