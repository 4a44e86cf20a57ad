"""``/metrics`` over HTTP: of several processes, and for clients that mean no good."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from config.tests.test_settings import DEVELOPMENT, refusal
from core.tests.waiting import until
from core.tests.web import ROOT, is_free, web_process
from core.version import VERSION
from devtools.ports import free_ports
from operations.metrics.exporter import LONGEST_HEAD, MOST_CLIENTS
from operations.metrics.exporting import export, is_exported

# A process that counts: it holds as many calls as it is told, and has ended as many.
COUNTS = """
import sys
from prometheus_client import Counter, Gauge, Histogram

held = Gauge("held", "Held.", multiprocess_mode="livesum")
ended = Counter("ended", "Ended.", ["reason"])
took = Histogram("took", "Took.", buckets=(1, 2))
for line in sys.stdin:
    held.set(int(line))
    ended.labels("é").inc(int(line))
    took.observe(int(line))
    print("counted", flush=True)
"""


class Exporter:
    def __init__(self, process: subprocess.Popen[str], port: int, directory: Path) -> None:
        self.process, self.port, self.directory = process, port, directory

    def metrics(self) -> dict[str, float]:
        """Return the values by name and labels, as they are written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as got:
            assert got.headers["Content-Type"].startswith("text/plain; version=")
            lines = got.read().decode().splitlines()
        values = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in values}

    async def until(self, name: str, value: float) -> None:
        """Wait until a series has a value; results are kept for half a second."""
        await until(lambda: self.metrics().get(name) == value)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    directory = Path(tempfile.mkdtemp(prefix="switchhook-metrics-"))
    (port,) = free_ports(1)
    process = start(port, directory)
    assert process.stdout.readline() == "ready\n"
    yield Exporter(process, port, directory)
    process.kill()
    process.communicate()


def start(port: int, directory: Path, *, parent: int | None = None) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "operations.metrics.exporter", "127.0.0.1", str(port))
    return subprocess.Popen(
        [*command, "engine", str(directory), str(parent or os.getpid())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def counting(exporter) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that count."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(exporter.directory)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNTS], env=environment, **pipes) for _ in range(2)
    ]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def count(process, number):
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "counted\n"


async def test_the_counts_of_a_dead_process_stay_and_its_files_do_not(exporter, counting):
    one, other = counting
    count(one, 1)
    count(other, 2)
    assert exporter.metrics()["held"] == 3
    one.kill()
    one.wait(10)
    count(other, 4)
    await exporter.until("held", 4)
    for _ in range(2):
        values = exporter.metrics()
        assert values['ended_total{reason="é"}'] == 7
        assert values['took_bucket{le="1.0"}'] == 1
        assert values['took_bucket{le="+Inf"}'] == values["took_count"] == 3
        assert values["took_sum"] == 7
    assert not list(exporter.directory.glob(f"*_{one.pid}.db"))
    other.kill()
    other.wait(10)
    await until(lambda: "held" not in exporter.metrics())
    assert exporter.metrics()['ended_total{reason="é"}'] == 7


def test_what_the_processes_use(exporter, counting):
    for process in counting:
        count(process, 1)
    values = exporter.metrics()
    assert values[f'switchhook_build_info{{process="engine",version="{VERSION}"}}'] == 1
    memory = sum(psutil.Process(process.pid).memory_info().rss for process in counting)
    assert values["switchhook_process_resident_memory_bytes"] == pytest.approx(memory, rel=0.2)
    assert values["switchhook_process_open_files"] >= 8
    assert values["switchhook_process_open_files_limit"] >= 512
    assert 0 < values["switchhook_process_cpu_seconds_total"] < 60


class TestClients:
    def ask(self, port, request):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(request)
            answer = b""
            while data := client.recv(65_536):
                answer += data
        return answer

    @pytest.mark.parametrize(
        ("request_line", "status"),
        [
            (b"GET /metrics?x=1 HTTP/1.1", b"200"),
            (b"GET / HTTP/1.1", b"404"),
            (b"GET /metrics/../../etc/passwd HTTP/1.1", b"404"),
            (b"POST /metrics HTTP/1.1", b"405"),
            (b"\xff\x00\xfe", b"404"),
        ],
    )
    def test_only_metrics_are_served(self, exporter, request_line, status):
        answer = self.ask(exporter.port, request_line + b"\r\n\r\n")
        assert answer.split(b" ")[1] == status

    def test_an_endless_head_is_not_read(self, exporter):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            self.ask(exporter.port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 64 * LONGEST_HEAD)
        assert exporter.metrics()

    def test_clients_that_do_nothing_keep_nobody_out(self, exporter):
        with ExitStack() as clients:
            idle = [
                clients.enter_context(socket.create_connection(("127.0.0.1", exporter.port)))
                for _ in range(4 * MOST_CLIENTS)
            ]
            assert exporter.metrics()
            # The latest are waited for, for some seconds; the first had to go.
            idle[0].settimeout(10)
            assert gone(idle[0])
            idle[-1].settimeout(10)
            assert gone(idle[-1])
        open_files = psutil.Process(exporter.process.pid).num_fds()
        assert open_files < MOST_CLIENTS

    def test_a_client_that_reads_nothing_is_dropped(self, exporter):
        # So much that the system's buffers do not take it all.
        code = "from prometheus_client import Gauge\n"
        code += "Gauge('big', 'x' * 8_000_000, multiprocess_mode='mostrecent').set(1)"
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(exporter.directory)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
        with socket.create_connection(("127.0.0.1", exporter.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            process = psutil.Process(exporter.process.pid)
            asyncio.run(until(lambda: len(process.net_connections()) == 2))
            assert exporter.metrics()
            asyncio.run(until(lambda: len(process.net_connections()) == 1, within=15))


def gone(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


class TestLife:
    def test_it_ends_with_its_parent_and_leaves_nothing(self, tmp_path):
        (port,) = free_ports(1)
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(port), str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        pid = int(parent.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        assert Exporter(parent, port, tmp_path).metrics()
        parent.kill()
        parent.communicate()
        asyncio.run(until(lambda: is_free(port), within=10))
        asyncio.run(until(lambda: not psutil.pid_exists(pid), within=10))
        assert not tmp_path.exists()

    def test_it_deletes_what_killed_ones_left_and_nothing_else(self, tmp_path):
        dead, used, new = (tmp_path / f"switchhook-metrics-{name}" for name in "dun")
        for each in (dead, used, new):
            each.mkdir()
        (dead / "counter_1.db").touch()
        (port, other) = free_ports(2)
        user = start(other, used)
        assert user.stdout.readline() == "ready\n"
        for each in (dead, used):
            os.utime(each, (0, 0))
        process = start(port, new)
        assert process.stdout.readline() == "ready\n"
        assert sorted(tmp_path.iterdir()) == [new, used]
        for each in (process, user):
            each.kill()
            each.communicate()


PARENT = """
import subprocess, sys, os
port, directory = sys.argv[1:]
command = [sys.executable, "-m", "operations.metrics.exporter", "127.0.0.1", port, "web", directory]
child = subprocess.Popen([*command, str(os.getpid())], stdout=subprocess.PIPE, text=True)
assert child.stdout.readline() == "ready\\n"
print(child.pid, flush=True)
sys.stdin.read()
child.wait()
"""


@pytest.mark.django_db(transaction=True)
async def test_gunicorn_serves_the_sum_of_its_workers(transactional_db):
    (port,) = free_ports(1)
    with web_process(workers=2, METRICS_PORT=str(port), SECRET_KEY="k" * 50) as web:
        exporter = Exporter(web.process, port, Path())
        name = 'switchhook_http_request_seconds_count{area="health",status="2xx"}'

        def ask():
            with urllib.request.urlopen(f"{web.url}/livez", timeout=30):  # noqa: S310 (ours)
                pass

        for _ in range(10):
            ask()
        await exporter.until(name, 10)
        await exporter.until("switchhook_database_pool_limit", 20)
        arbiter = psutil.Process(web.process.pid)
        kinds = {kind(child): child for child in arbiter.children()}
        environment = kinds["exporter"].environ()
        assert not [name for name in environment if "KEY" in name or "URL" in name]
        kinds["worker"].kill()
        await until(lambda: not kinds["worker"].is_running())
        assert exporter.metrics()[name] == 10
        ask()
        await exporter.until(name, 11)

        kinds["exporter"].kill()
        await until(lambda: is_there_another(arbiter, kinds["exporter"]))
        await until(lambda: not is_free(port))
        assert exporter.metrics()[name] == 11

        second = subprocess.run(  # noqa: ASYNC221 (nothing else runs)
            [sys.executable, "-m", "gunicorn", "--config=config/gunicorn.conf.py"],
            cwd=ROOT,
            env={**os.environ, "DEBUG": "1", "METRICS_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1
        assert f"METRICS_PORT {port} on 127.0.0.1 cannot be used: Address already" in second.stderr
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(30)
        assert is_free(port)  # no exporter is left for a service manager to kill


def is_there_another(arbiter, exporter):
    children = [child for child in arbiter.children() if child.pid != exporter.pid]
    return "exporter" in map(kind, children)


def kind(process):
    return "exporter" if "operations.metrics.exporter" in process.cmdline() else "worker"


def test_nothing_is_served_unless_a_port_is_set(settings, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/shared/by/several")
    settings.METRICS_PORT = 0
    export("web")
    assert not is_exported()
    assert not [child for child in psutil.Process().children() if kind(child) == "exporter"]


def test_the_metrics_port_is_no_public_port():
    told = refusal({**DEVELOPMENT, "PORT": "8000", "METRICS_PORT": "8001"})
    assert told == "METRICS_PORT must differ from PORT and MEDIA_PORT (it is 8001)."


def test_an_unreachable_address_is_refused():
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "operations.metrics.exporter", "203.0.113.1", "1"),
                *("web", directory, str(os.getpid())),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (ended.returncode, ended.stdout) == (1, "Cannot assign requested address\n")


def test_metrics_are_not_at_the_public_port(client):
    assert client.get("/metrics").status_code == 404
