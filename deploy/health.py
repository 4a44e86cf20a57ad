"""A container's health check: exits with 0 unless this container's server does not respond.

It asks ``/livez``, not ``/readyz``: whoever restarts an engine because the database is unavailable
ends its calls.
"""

import os
import sys
from pathlib import Path
from urllib.request import ProxyHandler, build_opener


def main() -> None:
    if b"gunicorn" not in Path("/proc/1/cmdline").read_bytes():
        return  # a worker listens nowhere, and ends if it cannot go on
    host = os.environ.get("HOST", "127.0.0.1")
    if host in ("0.0.0.0", "::"):  # noqa: S104 # nosec B104 # compared, not listened on
        host = "127.0.0.1"
    address = f"[{host}]" if ":" in host else host
    port = os.environ.get("PORT") or "8000"
    try:
        build_opener(ProxyHandler({})).open(f"http://{address}:{port}/livez", timeout=4).close()
    except OSError as error:
        sys.exit(f"/livez: {error}")


if __name__ == "__main__":
    main()
