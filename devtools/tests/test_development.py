"""The whole program of ``bin/dev``: it starts, reports that, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from core.tests.long import only_in_all
from core.tests.poisons import IS_SHORT
from devtools.ports import free_ports
from devtools.tests.development import development_environment, start

PORTS = [(1, "media"), (0, "web"), (2, "sandbox")]


@pytest.fixture
def port() -> int:
    return free_ports(3)[0]


@pytest.fixture
def environment(port: int, transactional_db: None) -> dict[str, str]:
    return development_environment(port)


@pytest.fixture
def dev(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with start(environment) as process:
        yield process
        process.kill()


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"It never said {text!r}:\n{''.join(lines)}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the status and the errors."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@only_in_all("the demo starts and stops as well")
def test_it_works(dev: subprocess.Popen[str], port: int) -> None:
    lines_until(dev, f"Ready: http://127.0.0.1:{port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as response:
        assert response.status == 200
    assert takes_connections(port + 2)
    dev.send_signal(signal.SIGTERM)
    assert ended(dev) == (0, "")
    assert not any(takes_connections(port + offset) for offset in range(3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP][: 1 if IS_SHORT else None])
def test_it_ends_during_the_start(dev: subprocess.Popen[str], number: signal.Signals) -> None:
    lines_until(dev, "migrate |")
    dev.send_signal(number)
    assert ended(dev) == (0, "")


@pytest.mark.parametrize(("offset", "what"), PORTS[: 1 if IS_SHORT else None])
def test_a_port_that_is_taken_is_named(
    environment: dict[str, str], port: int, offset: int, what: str
) -> None:
    with socket.create_server(("127.0.0.1", port + offset)):
        status, errors = ended(start(environment))
    assert status == 1
    assert errors == (
        f"bin/dev: Port {port + offset} ({what}) cannot be used (Address already in use): set PORT "
        "to the first of three free ports in a row.\n"
    )


def test_the_demo_pays_with_no_key_of_stripes(environment: dict[str, str]) -> None:
    key = {"STRIPE_SECRET_KEY": "sk_test_" + "x" * 24}
    status, errors = ended(start(environment | key, "demo", "--once"))
    assert status == 1
    assert errors.startswith("bin/demo: The demo pays in the payments sandbox: unset STRIPE_S")


def test_the_demo_tells_both_calls(environment: dict[str, str], port: int) -> None:
    demo = start(environment, "demo", "--once")
    story, errors = demo.communicate(timeout=120)
    assert (demo.returncode, errors) == (0, "")
    for line in (
        "rosa@example.com has an account",
        "in a browser: paid with the test card",
        "Caller:   “Where is my order A-1001?”",
        "onToolCall: POST /backend/tools to the backend, signature valid:",
        "Callee:   “Great, thank you, goodbye.”",
        "The account's totals went up by these two calls.",
        '"amount": 5.1,',
    ):
        assert line in story
    assert "FAILED" not in story
    assert not any(takes_connections(port + offset) for offset in range(3))
