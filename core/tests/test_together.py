from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from core.together import Together


class Doubling:
    """Doubles numbers once ``may_finish`` is set; fails on -1."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_finish = asyncio.Event()

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        await self.may_finish.wait()
        if -1 in numbers:
            raise ValueError
        return [2 * number for number in numbers]


async def test_waiting_items_are_batched() -> None:
    doubling = Doubling()
    together = Together(doubling, at_most=3)
    results = [asyncio.ensure_future(together(number)) for number in range(6)]
    await asyncio.sleep(0)
    doubling.may_finish.set()
    assert await asyncio.gather(*results) == [0, 2, 4, 6, 8, 10]
    assert doubling.batches == [[0, 1, 2], [3, 4, 5]]
    assert await together(7) == 14, "a new batch starts"


async def test_log_lines_of_a_batch_are_not_about_its_first_item() -> None:
    seen: list[dict[str, Any]] = []

    async def note(items: list[str]) -> list[None]:
        seen.append(get_contextvars())
        return [None] * len(items)

    with bound_contextvars(call_id="c1"):
        await Together(note, at_most=1)("one")
    assert seen == [{}]


async def test_a_bad_item_fails_alone() -> None:
    doubling = Doubling()
    doubling.may_finish.set()
    together = Together(doubling, at_most=3)
    one, bad, two = await asyncio.gather(
        together(1), together(-1), together(2), return_exceptions=True
    )
    assert (one, two) == (2, 4)
    assert isinstance(bad, ValueError)


async def test_a_cancelled_item_does_not_affect_the_others() -> None:
    doubling = Doubling()
    together = Together(doubling, at_most=3)
    cancelled, other = (asyncio.ensure_future(together(number)) for number in (1, 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    doubling.may_finish.set()
    assert await other == 4


def test_each_event_loop_has_its_own_queue() -> None:
    together = Together(_doubled, at_most=3)
    unfinished = []

    async def cut_short() -> None:
        unfinished.append(asyncio.ensure_future(together(1)))
        await asyncio.sleep(0)

    asyncio.run(cut_short())
    with pytest.raises(TypeError):
        asyncio.run(together(None))  # type: ignore[arg-type]
    assert asyncio.run(_in_time(together)) == 4


async def _doubled(numbers: list[int]) -> list[int]:
    await asyncio.sleep(0)
    return [2 * number + 0 for number in numbers]


async def _in_time(together: Together[int, int]) -> int:
    async with asyncio.timeout(30):
        return await together(2)
