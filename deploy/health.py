"""A container's health check: exits with 0 unless this container's server does not respond.

It asks ``/livez``, not ``/readyz``: whoever restarts an engine because the database is unavailable
ends its calls. With ``--until-ready``, it waits up to a minute for ``/readyz``, for systemd: the
next engine may only be restarted when this one accepts calls.
"""

import os
import sys
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

_READY_WITHIN_S = 60


def main() -> None:
    if sys.argv[1:] == ["--until-ready"]:
        _wait()
        return
    if b"gunicorn" not in Path("/proc/1/cmdline").read_bytes():
        return  # a worker listens nowhere, and ends if it cannot go on
    try:
        _ask("/livez")
    except OSError as error:
        sys.exit(f"/livez: {error}")


def _wait() -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            _ask("/readyz")
            return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"/readyz: {error}")
        time.sleep(0.2)


def _ask(path: str) -> None:
    host = os.environ.get("HOST", "127.0.0.1")
    if host in ("0.0.0.0", "::"):  # noqa: S104 # nosec B104 # compared, not listened on
        host = "127.0.0.1"
    address = f"[{host}]" if ":" in host else host
    port = os.environ.get("PORT") or "8000"
    build_opener(ProxyHandler({})).open(f"http://{address}:{port}{path}", timeout=4).close()


if __name__ == "__main__":
    main()
