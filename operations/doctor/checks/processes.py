"""Checks of the processes that run, by their heartbeats in the database."""

from __future__ import annotations

from collections.abc import Iterable

from core.version import VERSION
from operations.doctor.findings import Check, Finding, Options, failed, ok, warning
from telephony.models import Process
from telephony.processes import processes_counted

_REMEDIES = {
    Process.Kind.WEB: (
        "pages, the API and Stripe's webhooks are not served",
        "PROCESS=web python -m gunicorn -c config/gunicorn.conf.py",
    ),
    Process.Kind.ENGINE: (
        "no call can be placed or answered",
        "PROCESS=engine python -m gunicorn -c config/gunicorn.conf.py",
    ),
    Process.Kind.WORKER: (
        "no callback, no email and no report to Stripe goes out",
        "python manage.py worker",
    ),
}


def _processes(kind: str, options: Options) -> Iterable[Finding]:
    counts = processes_counted()
    states = (Process.State.UP, Process.State.DRAINING, Process.State.SILENT)
    up, draining, silent = (counts[kind, state] for state in states)
    consequence, command = _REMEDIES[Process.Kind(kind)]
    if up:
        also = f", {draining} shutting down" * bool(draining)
        yield ok(f"{up} running{also}.")
    elif kind == Process.Kind.WEB and counts[Process.Kind.ENGINE, Process.State.UP]:
        yield ok("None is running. Engines serve the pages and the API.")
    else:
        said = f"All are shutting down ({draining})" if draining else "None is running"
        yield failed(
            f"{said}: {consequence}.",
            f"Start one: {command}. If one is running, its log says what is wrong, or its "
            "DATABASE_URL names another database.",
        )
    if silent:
        ours = Process.objects.with_state().filter(kind=kind).order_by("-last_seen_at")
        rows = ours.filter(state=Process.State.SILENT)  # type: ignore[misc]
        names = ", ".join(str(each) for each in rows[:3])
        yield warning(
            f"{silent} stopped without a shutdown in the last 24 hours: {names}.",
            "It was killed, or lost the database. Look at its log and at the kernel's (dmesg) "
            "for the reason, such as too little memory.",
        )


PROCESSES = Check(
    "processes",
    "Processes",
    "Whether web processes, engines and workers run, and whether one was killed in the last day.",
    _processes,
    subjects=tuple(Process.Kind.values),
    needs_database=True,
)


def _versions(subject: str, options: Options) -> Iterable[Finding]:
    every = Process.objects.with_state().order_by("version")
    up = every.exclude(state=Process.State.SILENT)  # type: ignore[misc]
    # Releases without a version wrote no version.
    versions = (version or "an older one" for version in up.values_list("version", flat=True))
    others = sorted(set(versions) - {VERSION})
    if others:
        yield warning(
            f"This is version {VERSION}, and processes of {', '.join(others)} are running.",
            "Fine during a deployment. Otherwise restart them, or run the doctor of their release.",
        )
    else:
        yield ok(f"Everything that runs has version {VERSION}.")


VERSIONS = Check(
    "versions",
    "Versions",
    "Processes of another release.",
    _versions,
    needs_database=True,
)


def running_now() -> dict[str, int]:
    """Return how many processes of each kind hold connections."""
    counts = processes_counted()
    states = (Process.State.UP, Process.State.DRAINING)
    return {kind: sum(counts[kind, state] for state in states) for kind in Process.Kind.values}
