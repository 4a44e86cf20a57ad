"""HAProxy in front of the product, and in front of the services that it talks to.

They are two processes, so that only the product's is measured. Each terminates TLS with the run's
own certificate. The product's looks at ``/readyz`` every second, sends nothing new to a process
that is not ready, and repeats what such a process refused.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools.attack.product import ALL_PORTS
from devtools.attack.session import ADDRESSES
from devtools.chaos.waiting import until
from devtools.cluster.dialogue import MODEL
from devtools.cluster.run import program
from devtools.processes import Failed

_READY_WITHIN_S = 10.0
_GLOBAL = """\
global
    maxconn 8000
    nbthread 1
    stats socket {folder}/{name}.sock mode 600 level admin
defaults
    mode http
    timeout connect 3s
    timeout client 75s
    timeout server 75s
    timeout tunnel 1h
    timeout http-request 10s
    timeout check 3s
    option redispatch 1
    retries 3
"""
_CHECKED = """\
backend {name}
    option httpchk GET /readyz
    http-check expect status 200
    default-server inter 1s fall 2 rise 1
"""
# A process that is stopping may close a connection on which it has received nothing, or respond
# with 503. Twilio's requests may be repeated, and so may those that change nothing.
_REPEATED = "    retry-on conn-failure empty-response 503\n"
_REPEATED_IF_SAFE = f"{_REPEATED}    http-request disable-l7-retry unless METH_GET\n"


def product_configuration(folder: Path, servers: Sequence[str]) -> str:
    """Return the configuration in front of these web and engine processes."""
    webs = [name for name in servers if name.startswith("web")]
    engines = [name for name in servers if name.startswith("engine")]
    frontend = f"""\
frontend public
    bind {ADDRESSES["product"]}:443 ssl crt {folder}/server.pem
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    use_backend engines if {{ hdr(host) -i engine.example.com }}
    use_backend media if {{ hdr(host) -i media.example.com }}
    default_backend webs
"""
    backends = [
        _CHECKED.format(name="webs") + _REPEATED_IF_SAFE + _servers(webs),
        _CHECKED.format(name="engines") + _REPEATED + _servers(engines),
        # The media port is not asked: it is as ready as its engine's other port.
        _CHECKED.format(name="media") + "    balance leastconn\n" + _servers(engines, media=True),
    ]
    return _GLOBAL.format(folder=folder, name="front") + frontend + "".join(backends)


def services_configuration(
    folder: Path, ports: Mapping[str, int], models: Sequence[int], talking: int
) -> str:
    """Return the configuration in front of the services, by the part of the network.

    :param models: the ports of models that echo; ``talking`` is that of the one that converses.
    """
    binds = "".join(
        f"    bind {address}:443 ssl crt {folder}/server.pem\n"
        for part, address in ADDRESSES.items()
        if part != "product"
    )
    talks = f"{{ dst {ADDRESSES['openai']} }} {{ urlp(model) {MODEL} }}"
    uses = f"    use_backend talking if {talks}\n" + "".join(
        f"    use_backend {part} if {{ dst {ADDRESSES[part]} }}\n" for part in (*ports, "openai")
    )
    backends = "".join(
        f"backend {part}\n    server one 127.0.0.1:{port}\n" for part, port in ports.items()
    )
    echoes = "".join(f"    server m{port} 127.0.0.1:{port}\n" for port in models)
    return (
        _GLOBAL.format(folder=folder, name="services")
        + f"frontend services\n{binds}{uses}{backends}"
        + f"backend openai\n    balance leastconn\n{echoes}"
        + f"backend talking\n    server one 127.0.0.1:{talking}\n"
    )


def _servers(names: Sequence[str], *, media: bool = False) -> str:
    lines = []
    for name in names:
        port = ALL_PORTS[name]
        address = f"127.0.0.1:{port + 1} check port {port}" if media else f"127.0.0.1:{port} check"
        lines.append(f"    server {name} {address}\n")
    return "".join(lines)


@dataclass
class Balancer:
    """An HAProxy with its configuration, which it reads again at :meth:`reload`."""

    name: str
    folder: Path
    configuration: str
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._process = self._begin()
        socket = self.folder / f"{self.name}.sock"
        if not await until(socket.exists, within=_READY_WITHIN_S):
            raise Failed(f"HAProxy did not start: see {self.log}")

    def _begin(self) -> subprocess.Popen[bytes]:
        path = self.folder / f"{self.name}.cfg"
        path.write_text(self.configuration)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [program("haproxy") or "haproxy", "-W", "-f", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def reload(self) -> None:
        """Replace the process; the old one keeps its connections until they close."""
        before = self.workers()
        self._signal(signal.SIGUSR2)
        if not await until(lambda: set(self.workers()) - set(before), within=_READY_WITHIN_S):
            raise Failed(f"HAProxy did not reload: see {self.log}")

    def workers(self) -> list[int]:
        """Return the ids of the processes that serve."""
        if self._process is None:
            return []
        pid = self._process.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)


async def until_up(names: Sequence[str], folder: Path, *, within: float = 20.0) -> None:
    """Wait until the product's HAProxy considers these processes ready."""

    async def are_up() -> bool:
        states = await _states(folder / "front.sock")
        return all(states.get(name) == "2" for name in names)

    if not await until(are_up, within=within):
        raise Failed(f"HAProxy considers {', '.join(names)} down after {within:.0f} s.")


async def _states(socket: Path) -> dict[str, str]:
    """Return the operational state of each server; 2 is up."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(b"show servers state\n")
    lines = (await reader.read()).decode().splitlines()
    writer.close()
    rows = (line.split() for line in lines[2:] if line)
    return {row[3]: row[5] for row in rows}
