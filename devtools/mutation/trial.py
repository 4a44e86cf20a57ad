"""Tests of mutants, each in a process of its own, on a copy of the code.

Importing everything and collecting the tests takes longer than most mutants live. So this happens
once, and a mutant's process starts as a fork of that one, with one function replaced. Code that
runs at import cannot be replaced that late: its mutants import everything again.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import _lru_cache_wrapper
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from devtools.mutation.operators import Mutant

MEMORY = 2 << 30  # bytes that a mutant may use
_QUIET = ["-qq", "-p", "no:cacheprovider", "-p", "no:faulthandler"]

# The exit status of a mutant's process; one over its limits ends with a signal.
SURVIVED, NAMED, GENERATED, ANEW = 0, 10, 11, 12


class Fault(NamedTuple):
    """A mutant of a file."""

    path: Path
    mutant: Mutant

    def source(self) -> bytes:
        return self.mutant.of(self.path.read_bytes())


@dataclass(slots=True)
class Suite:
    """The tests of the code in ``folder``, which comes first on the import path.

    ``observe`` stores here how long each test takes, and which functions it calls.
    """

    folder: Path
    tests: str
    generated: str  # the file of slower tests, for mutants that survive the others
    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, list[str]] = field(default_factory=dict)
    imports: list[str] = field(default_factory=list)  # functions called before any test
    patience: int = 5  # extra CPU seconds that a mutant may take


def observe(suite: Suite) -> bool:
    """Run the tests as they are; return whether they pass."""
    log = suite.folder / "observed.json"
    pid = _fork(lambda: _run(suite, _Observer(suite, log)))
    if os.waitpid(pid, 0)[1]:
        return False
    suite.seconds, suite.calls, suite.imports = json.loads(log.read_text())
    return True


def outcomes(suite: Suite, faults: Sequence[Fault], jobs: int) -> Iterator[tuple[Fault, int]]:
    """Yield the exit status of each mutant's process, or minus a signal.

    Raises RuntimeError if the tests cannot be collected.
    """
    early = [index for index, fault in enumerate(faults) if _is_early(suite, fault)]
    late = [index for index in range(len(faults)) if index not in set(early)]
    reader, writer = os.pipe()
    master = _fork(lambda: _run(suite, _Master(suite, faults, late, jobs, writer)))
    os.close(writer)
    try:
        with open(reader) as lines:
            for line in lines:
                index, status = map(int, line.split())
                if status == ANEW:
                    early.append(index)
                else:
                    yield faults[index], status
    except BaseException:  # if we are killed, so is that one
        os.kill(master, signal.SIGTERM)
        raise
    if os.waitpid(master, 0)[1]:
        raise RuntimeError("the tests could not be collected a second time")

    def start(index: int) -> int:
        return _fork(lambda: _import_anew(suite, faults[index]))

    for index, status in _side_by_side(early, start, jobs):
        yield faults[index], status


def _is_early(suite: Suite, fault: Fault) -> bool:
    return not fault.mutant.function or _name(fault) in suite.imports


def _name(fault: Fault) -> str:
    return f"{fault.path}:{fault.mutant.function}"


def _side_by_side(
    indices: Sequence[int], start: Callable[[int], int], jobs: int
) -> Iterator[tuple[int, int]]:
    """Start a process for each, ``jobs`` at a time; yield their exit statuses."""
    running: dict[int, int] = {}
    waiting = list(reversed(indices))
    while waiting or running:
        while waiting and len(running) < jobs:
            index = waiting.pop()
            running[start(index)] = index
        pid, status = os.wait()
        yield running.pop(pid), os.waitstatus_to_exitcode(status)


# In its own process


def _fork(work: Callable[[], int]) -> int:
    """Return the new process, which exits with the result of ``work``."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = NAMED
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        status = work()
    finally:
        os._exit(status)


def _bound(seconds: float) -> None:
    """Limit this process to these CPU seconds, and to ten times as long by the clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = round(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(round(10 * seconds))


def _run(suite: Suite, plugin: object) -> int:
    """Import and collect the tests, and pass them to the plugin."""
    os.chdir(suite.folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(suite.folder))
    # The same examples for each mutant in every run.
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
    return NAMED if pytest.main([*_QUIET, suite.tests], plugins=[plugin]) else SURVIVED


def _import_anew(suite: Suite, fault: Fault) -> int:
    _bound(60)
    sys.meta_path.insert(0, _Finder(fault.path, fault.source()))
    return _run(suite, _Judge(suite))


class _Observer:
    """Runs every test, and records its time and the folder's functions that it calls."""

    def __init__(self, suite: Suite, log: Path) -> None:
        self._suite, self._log = suite, log
        self._called: set[str] = set()
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(self._suite.folder)):
            self._called.add(f"{code.co_filename}:{code.co_qualname.partition('.<locals>')[0]}")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        imports, calls, seconds = sorted(self._called), {}, {}
        caches = [each for each in gc.get_objects() if isinstance(each, _lru_cache_wrapper)]
        for item in session.items:
            for cache in caches:  # so that cached functions are called too
                cache.cache_clear()
            self._called.clear()
            reports = runtestprotocol(item, log=False, nextitem=None)
            if any(report.failed for report in reports):
                session.testsfailed += 1
            calls[item.nodeid] = sorted(self._called)
            seconds[item.nodeid] = sum(report.duration for report in reports)
        sys.setprofile(None)
        self._log.write_text(json.dumps([seconds, calls, imports]))
        return True


class _Judge:
    """Exits with the verdict of the tests: fast ones first, generated ones last."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        # Tests that cannot be collected are not among the items.
        os._exit(NAMED if session.testsfailed else self.judge(session.items))

    def judge(self, items: Sequence[pytest.Item], name: str = "") -> int:
        """Return a status; with a function's name, run only the tests that call it."""
        chosen = [item for item in items if not name or name in self._suite.calls[item.nodeid]]
        chosen.sort(key=lambda item: self._suite.seconds[item.nodeid])
        for is_late, status in ((False, NAMED), (True, GENERATED)):
            if self._fails([item for item in chosen if self._is_generated(item) is is_late]):
                return status
        return SURVIVED

    def _fails(self, items: Sequence[pytest.Item]) -> bool:
        # Twice as much is plenty: these seconds were measured by the clock.
        _bound(self._suite.patience + 2 * sum(self._suite.seconds[item.nodeid] for item in items))
        return any(
            report.failed
            for item in items
            for report in runtestprotocol(item, log=False, nextitem=None)
        )

    def _is_generated(self, item: pytest.Item) -> bool:
        return item.nodeid.startswith(self._suite.generated)


class _Master(_Judge):
    """Loads all tests, and forks a process for each mutant."""

    def __init__(
        self, suite: Suite, faults: Sequence[Fault], indices: Sequence[int], jobs: int, writer: int
    ) -> None:
        super().__init__(suite)
        self._faults, self._indices, self._jobs, self._writer = faults, indices, jobs, writer

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        def start(index: int) -> int:
            return _fork(lambda: self._change_one(self._faults[index], session.items))

        for index, status in _side_by_side(self._indices, start, self._jobs):
            os.write(self._writer, f"{index} {status}\n".encode())
        os._exit(SURVIVED)

    def _change_one(self, fault: Fault, items: Sequence[pytest.Item]) -> int:
        return self.judge(items, _name(fault)) if _replace(fault) else ANEW


def _replace(fault: Fault) -> bool:
    """Replace the function's code by the mutant's; return False if it does not fit."""
    name = fault.mutant.function
    whole = compile(fault.source(), str(fault.path), "exec")
    new = [code for code in _functions(whole) if code.co_qualname == name]
    old = [
        function
        for function in gc.get_objects()
        if isinstance(function, FunctionType)
        and function.__code__.co_qualname == name
        and function.__code__.co_filename == str(fault.path)
    ]
    if len(new) != 1 or len(old) != 1 or new[0].co_freevars != old[0].__code__.co_freevars:
        return False
    old[0].__code__ = new[0]
    return True


def _functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the functions of a module and of its classes, without nested ones."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & inspect.CO_OPTIMIZED:
                yield part
            else:
                yield from _functions(part)


class _Finder:
    """Finds one module with different source than its file's."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        is_ours = str(self._path.parent) in (path or ())
        if not is_ours or name.rpartition(".")[2] != self._path.stem:
            return None
        loader = _Loader(name, str(self._path), self._source)
        return importlib.util.spec_from_file_location(name, self._path, loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)
