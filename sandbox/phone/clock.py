"""The time of a call, which may run faster than real time."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Counts seconds from zero, ``speed`` of them per real second.

    Speed accelerates people and wires: ringing, speech, the pace of media. The limits of HTTP
    requests stay real time, since the servers behind them are not accelerated.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._zero = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._zero) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    async def sleep_until(self, moment: float) -> None:
        """Return at that time; yield to other tasks even if it has passed."""
        await asyncio.sleep(max(0.0, (moment - self.now()) / self.speed))
