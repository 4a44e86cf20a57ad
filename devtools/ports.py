"""Free ports for servers that are given their ports as numbers."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below the ports that Linux gives to outgoing connections (32768 and up): a server needs seconds to
# listen, and any connection of this machine could have its port by then.
_FIRST, _LAST = 20_000, 32_000
# Unpredictable, whatever seeds a test sets: test processes must not choose the same ones.
_random = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Return ports in a row that nobody listens on."""
    while True:
        first = _random.randint(_FIRST, _LAST - count)
        ports = list(range(first, first + count))
        if _are_free(ports):
            return ports


def _are_free(ports: list[int]) -> bool:
    with ExitStack() as sockets:
        try:
            for port in ports:
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
    return True
