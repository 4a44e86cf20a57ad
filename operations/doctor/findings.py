"""What the doctor's checks look like, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """A sentence about the installation, and what to do about it, unless all is well.

    Neither contains a secret.
    """

    status: Status
    message: str
    action: str = ""


@dataclass(frozen=True)
class Options:
    """``processes`` is how many processes of each kind there are to be, if the operator said so."""

    processes: Mapping[str, int] = field(default_factory=dict)


Run = Callable[[str, Options], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """A check, which runs once for each subject: a variable, mostly, or "".

    :param key: its name, for ``--only`` and ``--json``.
    :param title: its name for people.
    :param finds: what it looks for, for the guide.
    :param needs: the variables that must be right, besides the subject and ``DEBUG``.
    """

    key: str
    title: str
    finds: str
    run: Run
    subjects: tuple[str, ...] = ("",)
    needs: tuple[str, ...] = ()
    needs_database: bool = False


@dataclass(frozen=True)
class Row:
    """A finding, and the check and the subject that it is about."""

    check: Check
    subject: str
    finding: Finding

    @property
    def title(self) -> str:
        return f"{self.check.title}: {self.subject}" if self.subject else self.check.title


def ok(message: str) -> Finding:
    return Finding(Status.OK, message)


def warning(message: str, action: str) -> Finding:
    return Finding(Status.WARNING, message, action)


def failed(message: str, action: str) -> Finding:
    return Finding(Status.FAILED, message, action)


def skipped(message: str) -> Finding:
    return Finding(Status.SKIPPED, message)
