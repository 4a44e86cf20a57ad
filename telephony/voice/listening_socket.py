"""A listening socket that limits how many of its connections are still unadmitted.

To an event loop it is an ordinary socket. A connection may be waiting for its upgrade or for a
valid ticket. Beyond the limit, a new connection closes the one that has waited longest.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

# How many connections to accept in one turn of the event loop. Each takes about 0.1 ms.
_AT_ONCE = 16
_NO_FILES = (errno.EMFILE, errno.ENFILE)


class ListeningSocket(socket.socket):
    """A TCP port that several processes may share; raises :class:`OSError` if it is taken."""

    def __init__(self, host: str, port: int, *, most_waiting: int, receive_buffer: int) -> None:
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._most_waiting = most_waiting
        #: By file descriptor, the longest waiting first.
        self.waiting: dict[int, Connection] = {}
        self._taken = 0
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Accepted connections inherit this.
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.bind((host, port))
        except BaseException:
            self.close()
            raise

    def accept(self) -> tuple[Connection, Any]:
        """Accept a connection; raise :class:`BlockingIOError` after enough of them in one turn."""
        if self._taken == _AT_ONCE:
            self._taken = 0
            raise BlockingIOError
        try:
            accepted, address = super().accept()
        except OSError as error:
            self._taken = 0
            if error.errno in _NO_FILES and self.waiting:
                self._make_room()
                raise BlockingIOError from None
            raise
        self._taken += 1
        connection = Connection(accepted, self)
        self.waiting[connection.fileno()] = connection
        if len(self.waiting) > self._most_waiting:
            self._make_room()
        return connection, address

    def admit(self, file: int) -> None:
        """Stop counting a connection as waiting: it is never closed to make room."""
        self.waiting.pop(file, None)

    def _make_room(self) -> None:
        oldest = self.waiting.pop(next(iter(self.waiting)))
        with contextlib.suppress(OSError):  # it may have ended
            oldest.shutdown(socket.SHUT_RDWR)  # the reader then sees its end


class Connection(socket.socket):
    """A connection that this socket accepted."""

    def __init__(self, accepted: socket.socket, listening_socket: ListeningSocket) -> None:
        super().__init__(fileno=accepted.detach())
        self._listening_socket = listening_socket

    def close(self) -> None:
        self._listening_socket.admit(self.fileno())
        super().close()
