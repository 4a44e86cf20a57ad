"""Processes that start and end together, tested with real ones."""

from __future__ import annotations

import asyncio
import io
import signal
import sys

import psutil
import pytest

from devtools.processes import Failed, Processes

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
# Starts a child, prints its pid, and continues.
HAS_A_CHILD = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEPS!r}], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(60)
"""
IS_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


class Output(io.StringIO):
    """The output of the processes, and its number of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def flush(self) -> None:
        self.changed.set()

    def lines_of(self, name: str) -> list[str]:
        lines = [line.partition("| ") for line in self.getvalue().splitlines()]
        return [text for prefix, _, text in lines if prefix.strip() == name]

    async def line_of(self, name: str) -> str:
        """Wait for the first line and return it."""
        async with asyncio.timeout(10):
            while not self.lines_of(name):
                self.changed.clear()
                await self.changed.wait()
        return self.lines_of(name)[0]


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def assert_dies(pid: int) -> None:
    """Poll, because the end of a process is reported to its parent only."""
    async with asyncio.timeout(30):
        while is_running(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def run_python(processes: Processes, code: str) -> None:
    await processes.run("it", sys.executable, "-c", code)


async def start_python(processes: Processes, name: str, code: str) -> None:
    await processes.start(name, sys.executable, "-c", code)


async def test_it_works() -> None:
    output = Output()
    async with Processes(output) as processes:
        await run_python(processes, "print('one'); print('two', end='')")
    assert output.getvalue() == "it      | one\nit      | two\n"


async def test_the_error_output_comes_too_and_no_line_is_too_long() -> None:
    output = Output()
    async with Processes(output) as processes:
        await run_python(processes, "import sys; sys.stderr.write('x' * 200_000)")
    assert output.lines_of("it") == ["x" * 200_000]


async def test_a_status_is_named() -> None:
    async with Processes(Output()) as processes:
        with pytest.raises(Failed, match="it ended with status 3"):
            await run_python(processes, "raise SystemExit(3)")


async def test_the_end_kills_every_child() -> None:
    output = Output()
    async with Processes(output) as processes:
        await start_python(processes, "parent", HAS_A_CHILD)
        grandchild = int(await output.line_of("parent"))
        assert is_running(grandchild)
    await assert_dies(grandchild)


async def test_a_process_that_dies_is_named_and_takes_the_others_along() -> None:
    output = Output()
    async with Processes(output) as processes:
        await start_python(processes, "parent", HAS_A_CHILD)
        await start_python(processes, "victim", f"import os; print(os.getpid()); {SLEEPS}")
        grandchild = int(await output.line_of("parent"))
        psutil.Process(int(await output.line_of("victim"))).send_signal(signal.SIGKILL)
        with pytest.raises(Failed, match="victim ended with signal 9"):
            await processes.unless_one_ends(asyncio.Event().wait())
    await assert_dies(grandchild)


async def test_a_process_dies_although_its_child_lives_on() -> None:
    output = Output()
    async with Processes(output) as processes:
        await start_python(processes, "parent", HAS_A_CHILD.replace("time.sleep(60)\n", ""))
        with pytest.raises(Failed, match="parent ended with status 0"):
            await processes.unless_one_ends(asyncio.sleep(10))


async def test_a_process_that_ignores_the_signal_is_killed() -> None:
    output = Output()
    async with Processes(output, grace=0.1) as processes:
        await start_python(processes, "deaf", f"import os; print(os.getpid()); {IS_DEAF}")
        pid = int(await output.line_of("deaf"))
    await assert_dies(pid)


async def test_work_ends_and_processes_continue() -> None:
    output = Output()
    async with Processes(output) as processes:
        await start_python(processes, "sleeper", SLEEPS)
        await processes.unless_one_ends(output.line_of("sleeper"))
        with pytest.raises(ZeroDivisionError):
            await processes.unless_one_ends(_divide())


async def _divide() -> float:
    return 1 / 0
