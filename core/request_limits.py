"""Limits on what a client may use of a server, for both web and engine.

A buffering proxy, as docs/production.md recommends, keeps slow clients away from them.
"""

from __future__ import annotations

from core.engine_urls import VOICE_PATH

# Bytes. Nobody uploads files. Requests of customers and Stripe have a few thousand bytes, Twilio's
# forms have hundreds.
BODY = 256 << 10
VOICE_BODY = 64 << 10
HEAD = 64 << 10
# The most pieces of a body: reads of the socket, or chunks. An Ethernet packet has 1.4 KB.
PIECES = 1_000

# Seconds. For a request to arrive, from its connection's first byte; and for a client to read a
# response that a web process has finished. An engine buffers less: there, without progress.
REQUEST_WITHIN_S = 20.0
ANSWER_WITHIN_S = 30.0
# Seconds for a client to close its side, so that it sees the response before a reset.
LINGER_S = 2.0

# The most connections of one process that wait for their client. A new one replaces the oldest.
WAITING = 256
# The most bytes that these hold in a web process. One response may exceed any static file.
WAITING_BYTES = 64 << 20
ANSWER = 4 << 20


def most_body(path: str) -> int:
    """Return the largest body of a request to the path, in bytes."""
    is_voice = path == VOICE_PATH or path.startswith(f"{VOICE_PATH}/")
    return VOICE_BODY if is_voice else BODY
