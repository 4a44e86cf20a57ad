"""Media sockets that have not presented a valid ticket yet."""

from __future__ import annotations

from core import request_limits
from telephony.voice.websocket import POLICY_VIOLATION, Socket

# Per process, and per network within it. Beyond the limit the oldest is closed: a socket that
# brings a ticket is admitted within a moment.
MOST_WAITING = request_limits.WAITING
MOST_OF_ONE_NETWORK = MOST_WAITING // 2


class UnadmittedSockets:
    """Unadmitted sockets, by the network that they come from."""

    def __init__(self) -> None:
        self._sockets: dict[str, dict[Socket, None]] = {}

    def add(self, network: str, socket: Socket) -> None:
        theirs = self._sockets.setdefault(network, {})
        theirs[socket] = None
        if len(theirs) > MOST_OF_ONE_NETWORK:
            oldest = next(iter(theirs))
            del theirs[oldest]
            oldest.close(POLICY_VIOLATION, "Too many sockets are waiting for a call.")

    def remove(self, network: str, socket: Socket) -> None:
        theirs = self._sockets.get(network, {})
        theirs.pop(socket, None)
        if not theirs:
            self._sockets.pop(network, None)
