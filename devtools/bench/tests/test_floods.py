"""The figures depend on the machine; calls must be heard during a flood anyway."""

from __future__ import annotations

import os

import pytest

from devtools.bench import floods


@pytest.mark.parametrize("name", ["pings, never read"])
async def test_calls_are_heard_during_a_flood(name: str) -> None:
    found = await floods._measure([name], 2, 0.5, max(os.sched_getaffinity(0)))
    assert found[name].lost == 0
    assert found[name].gap_ms > 0
    assert found[name].grown < floods.MAY_GROW


def test_each_flood_has_something_to_send() -> None:
    for name, flood in floods._floods().items():
        assert flood.sockets > 0
        assert flood.first or flood.again or name == "idle connections"
