"""The media sockets that no ticket has let in yet."""

from __future__ import annotations

from core import request_limits
from telephony.voice.websocket import POLICY_VIOLATION, Socket

# In one process, and of one address in it. The oldest go first: one that brings a ticket is let in
# after a moment.
MOST_WAITING = request_limits.WAITING
MOST_OF_ONE_ADDRESS = MOST_WAITING // 2


class Strangers:
    """The sockets that no ticket has let in yet, by where they come from."""

    def __init__(self) -> None:
        self._sockets: dict[str, dict[Socket, None]] = {}

    def add(self, network: str, socket: Socket) -> None:
        theirs = self._sockets.setdefault(network, {})
        theirs[socket] = None
        if len(theirs) > MOST_OF_ONE_ADDRESS:
            oldest = next(iter(theirs))
            del theirs[oldest]
            oldest.close(POLICY_VIOLATION, "Too many sockets wait for a call.")

    def remove(self, network: str, socket: Socket) -> None:
        theirs = self._sockets.get(network, {})
        theirs.pop(socket, None)
        if not theirs:
            self._sockets.pop(network, None)
