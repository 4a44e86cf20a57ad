"""``bin/cluster`` finds what went wrong, and configures what it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from devtools.attack import certificates
from devtools.bench import frames, load
from devtools.chaos.report import Notes, Report
from devtools.cluster import run
from devtools.cluster.balancer import product_configuration, services_configuration
from devtools.cluster.model import WORDS, Model
from devtools.cluster.scenarios import expect_none_cut
from devtools.cluster.session import NAMES
from devtools.cluster.system import CallOutside, Cluster, Load, percentile
from sandbox.tests import models, realtime


def a_call(**changes: Any) -> CallOutside:
    whole = {"opened": 1.0, "closed": 9.0, "has_hung_up": True, "has_heard": True}
    return CallOutside("CA1", "+1", 0.5, 0.1, **{"connects": True, **whole, **changes})


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (a_call(), []),
        (a_call(closed=None, has_hung_up=False), []),
        (a_call(has_hung_up=False), ["No call is cut."]),
        (a_call(connects=False, said="503"), ["Every call is connected."]),
        (a_call(why="refused"), ["Every call is connected."]),
    ],
)
def test_every_call_is_connected_and_none_is_cut(call: CallOutside, found: list[str]) -> None:
    report, load = Report(), Load([], (1.0, 2.0), 1, calls={call.call_sid: call})
    cluster: Any = SimpleNamespace(load=load)
    expect_none_cut(cluster, Notes("steady", report))
    assert [finding.case for finding in report.findings] == found
    expect_none_cut(cluster, Notes("killed", Report()), but={call.call_sid: 1.0})


def test_a_call_may_be_silent_if_its_engine_was_killed() -> None:
    customer = SimpleNamespace(line=SimpleNamespace(number="+1"))
    cluster: Any = SimpleNamespace(load=SimpleNamespace(customers=[customer]))
    silent = a_call(has_heard=False, has_hung_up=False)
    [placed] = Cluster.placed(cluster, [silent], {"CA1": 5.0})
    assert (placed.is_let_in, placed.killed_at) == (True, 5.0)
    [placed] = Cluster.placed(cluster, [silent], {})
    assert (placed.is_let_in, placed.killed_at) == (False, None)


def test_a_call_that_went_on_elsewhere_has_another_stream() -> None:
    load = Load([], (1.0, 2.0), 1, calls={"CA1": a_call(closed=None, has_hung_up=False)})
    load._note({"event": "moved", "sid": "CA1", "at": 5.5})
    assert load.calls["CA1"].has_moved_since(5.0)
    assert not load.calls["CA1"].has_moved_since(6.0)


def test_percentiles_are_of_all_values() -> None:
    assert percentile({0.1: 98, 5.0: 1, 9.0: 1}, 0.5) == 0.1
    assert percentile({0.1: 98, 5.0: 1, 9.0: 1}, 0.99) == 5.0
    assert percentile({}, 0.5) == 0.0


def test_the_short_form_is_smaller() -> None:
    options = run.parse(["--short", "--only", "rolling"])
    assert options.names == ["rolling"]
    assert options.calls < run.parse([]).calls
    with pytest.raises(SystemExit):
        run.parse(["--calls", "0"])


async def test_the_model_echoes_and_responds_when_asked() -> None:
    append = {"type": "input_audio_buffer.append", "audio": f"{7:016}{frames.audio_of(1).decode()}"}
    events: list[Any] = []
    async with (
        load.ModelServer(Model) as server,
        aiohttp.ClientSession() as client,
        client.ws_connect(f"ws://127.0.0.1:{server.port}") as socket,
    ):
        for event in (append, {"type": "response.create"}, append):
            await socket.send_str(frames.dumps(event).decode())
        while [event.get("delta") for event in events].count(append["audio"]) < 2:
            events.append(await socket.receive_json(timeout=10))
    session, echo, created, *middle, done, limits, _ = events
    assert (session["type"], echo["delta"]) == ("session.created", append["audio"])
    response = [created, *middle, done, limits]
    for event in response:
        realtime.judge(event)
    assert (created["type"], done["type"]) == ("response.created", "response.done")
    assert done["response"]["status"] == "completed"
    assert models.heard(response) == WORDS
    # The callers take audio of an echo's size for an echo.
    assert all(
        len(event["delta"]) > frames.PAYLOAD
        for event in response
        if event["type"] == "response.output_audio.delta"
    )


@pytest.mark.skipif(run.program("haproxy") is None, reason="HAProxy is not installed.")
def test_haproxy_accepts_its_configurations(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    ports = {"backends": 1, "twilio": 2, "stripe": 3}
    texts = (
        product_configuration(tmp_path, NAMES),
        services_configuration(tmp_path, ports, [4], 5),
    )
    for text in texts:
        path = tmp_path / "haproxy.cfg"
        path.write_text(text)
        checked = subprocess.run(
            [str(run.program("haproxy")), "-c", "-f", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        assert "warning" not in checked.stderr.lower()
