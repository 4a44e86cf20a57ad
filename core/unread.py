"""Tells whether an idle connection is still good, without asking its server."""

from __future__ import annotations

import select


def has_unread(socket: int) -> bool:
    """Return True if a socket, by its file descriptor, has something to read: data, or its end."""
    polled = select.poll()
    polled.register(socket, select.POLLIN)
    return bool(polled.poll(0))
