"""The time of a call, which may pass quicker than ours."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Counts seconds from zero, ``speed`` of them for each real one.

    Speed quickens what people and wires do: ringing, speech, the pace of media. The limits of HTTP
    requests are real time, since whoever answers them is not quickened.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._zero = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._zero) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    async def sleep_until(self, moment: float) -> None:
        """Return at that time; let others run even when it has passed."""
        await asyncio.sleep(max(0.0, (moment - self.now()) / self.speed))
