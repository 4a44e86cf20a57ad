"""Tracks the processes of this installation: engines, workers and web processes.

Each writes a heartbeat (``telephony.heartbeat``) into the table that :class:`Process` describes.
A process that exits removes itself. One that is killed stays in the table as silent for
:data:`REMEMBERED_FOR`, so that its end is not overlooked.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Count, F
from django.db.models.functions import Coalesce, Now

from core.ids import new_id
from core.version import VERSION
from telephony.models import Process

REMEMBERED_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process says about itself: once, at its start."""

    kind: Process.Kind
    queues: tuple[str, ...] = ()
    id: str = field(default_factory=new_id)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    version: str = VERSION


def process_beat(me: Identity, *, is_draining: bool = False, calls: int = 0) -> bool:
    """Write a heartbeat; return False if the process was unknown, or taken for dead.

    :param calls: how many calls an engine holds.
    """
    told: dict[str, Any] = {
        "last_seen_at": Now(),
        "is_draining": is_draining,
        "draining_since": Coalesce(F("draining_since"), Now()) if is_draining else None,
        "calls": calls,
    }
    mine = Process.objects.filter(pk=me.id)
    if mine.filter(lost_at=None).update(**told):
        return True
    if not mine.update(lost_at=None, **told):
        Process.objects.create(
            pk=me.id,
            kind=me.kind,
            host=me.host,
            pid=me.pid,
            version=me.version,
            queues=",".join(me.queues),
            is_draining=is_draining,
            draining_since=Now() if is_draining else None,
            calls=calls,
        )
    return False


def process_leave(process_id: str) -> None:
    """Delete a process that exits; calls that an engine may still hold end as lost."""
    Process.objects.filter(pk=process_id).delete()


def processes_forget() -> None:
    """Delete the processes that fell silent long ago."""
    Process.objects.filter(last_seen_at__lt=Now() - REMEMBERED_FOR).delete()


def processes_counted() -> Counter[tuple[str, str]]:
    """Return the number of processes by kind and state, such as ``("engine", "draining")``."""
    rows = Process.objects.with_state().values_list("kind", "state").annotate(count=Count("pk"))  # type: ignore[misc]
    return Counter({(kind, state): count for kind, state, count in rows})


def versions_counted() -> Counter[str]:
    """Return the number of processes that run in each version."""
    heard = Process.objects.heard().values_list("version").annotate(count=Count("pk"))
    return Counter(dict(heard))
