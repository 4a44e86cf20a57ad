"""Faults of a phone, for tests of the software that must cope with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Faults:
    """Everything that can go wrong between a carrier and its customer; nothing by default.

    ``lost`` and ``answer_lost`` hold purposes of requests: ``voice``, ``action``, ``status``,
    ``stream-status``. A lost request is never made; after a lost response Twilio retries the
    request. Times are in seconds of call time.
    """

    signature: Literal["valid", "wrong", "none"] = "valid"
    lost: frozenset[str] = frozenset()
    answer_lost: frozenset[str] = frozenset()
    statuses_reversed: bool = False
    media_before_start: bool = False
    fragments: int = 1
    socket_dropped_after: float | None = None
    read_delay: float = 0.0
    marks_lost: bool = False


NO_FAULTS = Faults()
