from __future__ import annotations

import asyncio

import pytest

from core.together import Together


class Doubling:
    """Doubles numbers, when it is let; -1 cannot be doubled."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.goes_on = asyncio.Event()

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        await self.goes_on.wait()
        if -1 in numbers:
            raise ValueError
        return [2 * number for number in numbers]


async def test_what_comes_meanwhile_is_done_together() -> None:
    doubling = Doubling()
    together = Together(doubling, at_most=3)
    asked = [asyncio.ensure_future(together(number)) for number in range(6)]
    await asyncio.sleep(0)
    doubling.goes_on.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10]
    assert doubling.batches == [[0, 1, 2], [3, 4, 5]]
    assert await together(7) == 14, "it begins again"


async def test_one_that_fails_fails_alone() -> None:
    doubling = Doubling()
    doubling.goes_on.set()
    together = Together(doubling, at_most=3)
    one, bad, two = await asyncio.gather(
        together(1), together(-1), together(2), return_exceptions=True
    )
    assert (one, two) == (2, 4)
    assert isinstance(bad, ValueError)


async def test_one_that_is_cancelled_leaves_the_others_alone() -> None:
    doubling = Doubling()
    together = Together(doubling, at_most=3)
    cancelled, other = (asyncio.ensure_future(together(number)) for number in (1, 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    doubling.goes_on.set()
    assert await other == 4


def test_each_event_loop_has_its_own() -> None:
    together = Together(_doubled, at_most=3)
    asking = []

    async def cut_short() -> None:
        asking.append(asyncio.ensure_future(together(1)))
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
