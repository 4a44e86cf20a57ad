"""The figures depend on the machine; the benchmark must find every fault anyway."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from picows import WSFrame, WSTransport, ws_create_server

from core.tests.long import only_in_all
from devtools.attack import certificates
from devtools.bench import bare, load
from devtools.bench.measure import Setting, Trial, measure
from devtools.bench.relays import ENGINE, LIMIT, Relay

CORES = sorted(os.sched_getaffinity(0))
SETTING = Setting(CORES[-1], CORES[0], turns=2, seconds=0.3, warm_up=1.0, latest=0.2)


async def test_it_works() -> None:
    for measured in await measure([LIMIT, ENGINE], 3, SETTING):
        assert measured.is_complete
        assert measured.frames_sent > 70  # of about 90, on an idle machine
        assert measured.cpu_seconds_per_call_minute > 0
        assert 0 < measured.round_trip_p50_ms <= measured.round_trip_p99_ms


@only_in_all("two more processes")
async def test_tls_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / certificates.AUTHORITY))
    for measured in await measure([LIMIT, ENGINE], 3, replace(SETTING, certificates=tmp_path)):
        assert measured.is_complete


class Bad(bare.CallerEnd):
    """Treats every tenth frame badly."""

    def __init__(self, model_url: str, fault: str) -> None:
        super().__init__(model_url)
        self.fault = fault
        self.count = 0
        self.held = b""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        text = frame.get_payload_as_bytes()
        self.count += 1
        if self.count % 10 == 0:
            if self.fault == "loses":
                return
            if self.fault == "changes":
                text = text[:200] + (b"A" if text[200] != ord("A") else b"B") + text[201:]
            if self.fault == "swaps":
                self.held = text
                return
        if self.other is not None:
            self.other.send(load.TEXT, text)
            if self.held:
                self.other.send(load.TEXT, self.held)
                self.held = b""


@pytest.mark.parametrize("fault", ["loses", "changes", "swaps"])
async def test_faults_are_seen(fault: str) -> None:
    async with load.ModelServer() as model:
        url = f"ws://127.0.0.1:{model.port}/"
        server = await ws_create_server(lambda request: Bad(url, fault), "127.0.0.1", 0)
        relay = Relay(os.getpid(), server.sockets[0].getsockname()[1])
        trial = Trial("bad relay", relay, 3)
        await trial.begin()
        await trial.take_turn(SETTING)
        await trial.end()
        server.close()
        await server.wait_closed()
    measured = trial.result()
    assert not measured.is_complete
    assert {
        "loses": measured.frames_lost,
        "changes": measured.frames_damaged,
        "swaps": measured.frames_out_of_order,
    }[fault] >= 3
