"""Collects the metrics of a gunicorn or a worker from the files of its processes.

A counter must not fall when one of gunicorn's workers has died. Its counts are added to a file for
all that have, and its own files are deleted. Only the exporter does this, between two scrapes, so
no scrape counts anything twice. Nothing here imports Django.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from core.version import VERSION

_FILE = re.compile(r"(counter|histogram|gauge_live\w+)_(\d+)\.db")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class BuildInfo(Collector):
    def __init__(self, process: str) -> None:
        self._process = process

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "switchhook_build_info",
            "1, with the version and the kind of process: web, engine or worker.",
            labels=("version", "process"),
        )
        info.add_metric((VERSION, self._process), 1)
        yield info


class Values(Collector):
    """What the processes have counted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = MultiProcessCollector(None, path=str(directory))

    def collect(self) -> Iterable[Metric]:
        for pid in pids_of(self._directory):
            if not is_alive(pid):
                _bury(self._directory, pid)
        return self._files.collect()


def pids_of(directory: Path) -> set[int]:
    """Return the processes that have files."""
    return {int(found[2]) for each in os.listdir(directory) if (found := _FILE.fullmatch(each))}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # it is gone, or another user's has its number
        return False
    return True


def _bury(directory: Path, pid: int) -> None:
    """Keep the counts of a dead process, and delete its files."""
    for path in directory.glob(f"*_{pid}.db"):
        kind = path.name.partition("_")[0]
        if kind != "gauge":
            dead = MmapedDict(str(directory / f"{kind}_dead.db"))
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):
                dead.write_value(key, dead.read_value(key)[0] + value, 0.0)
            dead.close()
        path.unlink()


class Processes(Collector):
    """The memory, CPU time and files of the processes, where the system tells (``/proc``)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cpu_of: dict[int, float] = {}
        self._cpu = 0.0

    def collect(self) -> Iterator[Metric]:
        memory = files = limit = 0
        found = False
        for pid in pids_of(self._directory):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                files += len(os.listdir(f"/proc/{pid}/fd"))
                limits = Path(f"/proc/{pid}/limits").read_text()
            except OSError:
                continue
            found = True
            memory += int(fields[21]) * _PAGE
            limit += _soft_limit(limits)
            self._count_cpu(pid, (int(fields[11]) + int(fields[12])) / _TICKS)
        if not found:
            return
        name = "switchhook_process_"
        yield GaugeMetricFamily(
            f"{name}resident_memory_bytes", "Memory of this process and its workers.", memory
        )
        yield GaugeMetricFamily(f"{name}open_files", "Open files, sockets included.", files)
        yield GaugeMetricFamily(f"{name}open_files_limit", "The most that may be open.", limit)
        yield CounterMetricFamily(f"{name}cpu_seconds", "CPU time, user and system.", self._cpu)

    def _count_cpu(self, pid: int, seconds: float) -> None:
        """Add the CPU time since the last time, so that the sum never falls."""
        self._cpu += max(seconds - self._cpu_of.get(pid, 0.0), 0.0)
        self._cpu_of[pid] = seconds


def _soft_limit(limits: str) -> int:
    """Return the limit of open files in ``/proc/PID/limits``."""
    found = re.search(r"Max open files +(\d+)", limits)
    return int(found[1]) if found else 0
