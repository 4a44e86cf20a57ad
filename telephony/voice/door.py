"""A listening socket that knows whom it has let through and nobody has let in yet.

To an event loop it is a socket like any other. Whatever a connection still waits for, its upgrade
or somebody to vouch for it, there are so many of them at most: the one that has waited longest
makes room for the next.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

# How many connections are taken in one turn of the event loop: each is some 0.1 ms of work.
_AT_ONCE = 16
_NO_FILES = (errno.EMFILE, errno.ENFILE)


class Door(socket.socket):
    """A TCP port that several processes may share; raises :class:`OSError` if it is taken."""

    def __init__(self, host: str, port: int, *, most_waiting: int, receive_buffer: int) -> None:
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._most_waiting = most_waiting
        #: By their files, the one that has waited longest first.
        self.waiting: dict[int, Connection] = {}
        self._taken = 0
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Those that it accepts inherit it.
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.bind((host, port))
        except BaseException:
            self.close()
            raise

    def accept(self) -> tuple[Connection, Any]:
        """Take a connection; raise :class:`BlockingIOError` if that was enough for this turn."""
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

    def let_in(self, file: int) -> None:
        """That connection makes room for nobody from now on."""
        self.waiting.pop(file, None)

    def _make_room(self) -> None:
        oldest = self.waiting.pop(next(iter(self.waiting)))
        with contextlib.suppress(OSError):  # it may have ended
            oldest.shutdown(socket.SHUT_RDWR)  # whoever reads it sees its end


class Connection(socket.socket):
    """A connection that came through a door."""

    def __init__(self, accepted: socket.socket, door: Door) -> None:
        super().__init__(fileno=accepted.detach())
        self._door = door

    def close(self) -> None:
        self._door.let_in(self.fileno())
        super().close()
