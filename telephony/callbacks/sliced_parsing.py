"""Protects the event loop from HTTP servers that send responses which are slow to parse.

aiohttp parses everything that has arrived at once: hundreds of kilobytes of one-byte chunks, or
endless interim responses. Here it gets one slice in each iteration of the event loop, and a padded
response is aborted.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from core.unread import has_unread

SLICE = 1024
# Of one response, with its headers and the framing of its chunks, before decompression.
MOST_BYTES = 2 * 2**20
# Heads before the response's own ("103 Early Hints"), and after it.
MOST_HEADS = 16


class Padded(aiohttp.ClientError):
    """The response has too much data around its body."""


class Connector(aiohttp.TCPConnector):
    """A connector whose connections parse responses in slices."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast(Any, partial(_SlicedHandler, loop=self._loop))


class _SlicedHandler(ResponseHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._waiting = bytearray()
        self._turn: asyncio.Handle | None = None
        self._bytes = self._heads = 0

    def set_response_params(self, **params: Any) -> None:
        """Begin the response to another request."""
        self._bytes = self._heads = 0
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Count a head that was parsed."""
        self._heads += 1
        super().feed_data(data, size)

    def is_connected(self) -> bool:
        """Return True if another request can be sent.

        A server that closes the connection need not announce it, and a busy event loop has not read
        that yet. A request that meets a closed connection fails: a POST is not sent twice.
        """
        if not super().is_connected() or self.transport is None:
            return False
        return not has_unread(self.transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        if not data:  # aiohttp resumes where it paused
            super().data_received(data)
        if self._waiting and self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._turn is not None:
            self._turn.cancel()
        if self._waiting and exc is None:
            super().data_received(bytes(self._waiting))
        super().connection_lost(exc)

    def _take_turn(self) -> None:
        self._turn = None
        if self._reading_paused or self.transport is None:
            return
        piece = bytes(self._waiting[:SLICE])
        del self._waiting[:SLICE]
        self._bytes += len(piece)
        super().data_received(piece)
        if self._bytes > MOST_BYTES or self._heads > MOST_HEADS:
            self._break_off()
        elif self._waiting:
            if not self._buffer_paused:
                self._pause_reading_for_buffer()
            self._turn = self._loop.call_soon(self._take_turn)
        elif self._buffer_paused:
            self._resume_reading_for_buffer()

    def _break_off(self) -> None:
        error = Padded()
        self._waiting.clear()
        self.set_exception(error)
        if self._payload is not None:
            self._payload.set_exception(error)
        if self.transport is not None:
            self.transport.abort()
