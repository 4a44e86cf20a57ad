"""Stops and starts processes of the cluster."""

from __future__ import annotations

import signal
import time

from devtools.attack.product import ALL_PORTS
from devtools.chaos.report import Notes
from devtools.chaos.waiting import seconds_until
from devtools.cluster.balancer import until_up
from devtools.cluster.system import Cluster

_STOPS_WITHIN_S = 60.0


async def restart(cluster: Cluster, notes: Notes, name: str) -> None:
    """Stop a process as a deploy does, and start it again."""
    process = cluster.processes[name].popen
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    within = cluster.options.lasts[1] + _STOPS_WITHIN_S
    took = await seconds_until(lambda: process.poll() is not None, within=within)
    notes.measure(f"{name} stopped within", "never" if took is None else f"{took:.1f} s")
    notes.expect(
        "A process that is told to stop exits with 0.",
        process.poll() == 0,
        sent=name,
        came=process.poll(),
    )
    await begin(cluster, name)
    notes.measure(f"{name} is back after", f"{time.monotonic() - began:.1f} s")


async def begin(cluster: Cluster, name: str) -> None:
    """Start a process that has exited, and wait until it is used."""
    cluster.system.context.product.begin(name)
    if name in ALL_PORTS:
        await cluster.system.context.product.until_ready(ALL_PORTS[name])
        await until_up([name], cluster.folder)
