"""The phases of a call, see :mod:`telephony.engine.session`."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    STARTING = auto()
    TALKING = auto()
    LEAVING = auto()
    DRAINING = auto()
    FINISHED = auto()
