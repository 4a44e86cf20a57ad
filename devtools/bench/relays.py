"""The relays under measurement, each in a process and on a core of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

ROOT = Path(__file__).resolve().parents[2]
#: The modules to start, by the name in the report. The first is the limit.
LIMIT, ENGINE, WITH_METRICS = "bare relay", "engine", "with metrics"
MODULES = {
    LIMIT: "devtools.bench.bare",
    ENGINE: "devtools.bench.engine",
    WITH_METRICS: "devtools.bench.engine",
}


@dataclass(frozen=True, slots=True)
class Relay:
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads."""
        # clock_getcpuclockid(3): the kernel's clocks of other processes, exact to nanoseconds.
        return time.clock_gettime(~self.pid << 3 | 2)

    def memory(self) -> int:
        """Return its memory in bytes, without the kernel's socket buffers."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def running(name: str, *, core: int, model_url: str) -> Iterator[Relay]:
    """Start a relay to the model, pinned to a core; kill it on exit."""
    command = [sys.executable, "-m", MODULES[name], model_url]
    pipe = subprocess.PIPE
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=pipe,
            stdout=pipe,
            text=True,
            # Where the engine keeps what it counts (``operations.metrics``).
            env=os.environ | ({"PROMETHEUS_MULTIPROC_DIR": folder} if name == WITH_METRICS else {}),
        ) as process,
    ):
        try:
            os.sched_setaffinity(process.pid, {core})
            port = cast(IO[str], process.stdout).readline()
            if not port:
                raise ChildProcessError(f"The {name} did not start.")
            yield Relay(process.pid, int(port))
        finally:
            process.kill()
