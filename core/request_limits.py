"""How much of a server a client may hold, whatever stands between: said once, for web and engine.

A proxy that buffers, as docs/production.md asks for, keeps all of this away from them.
"""

from __future__ import annotations

from core.engine_urls import VOICE_PATH

# Bytes. No file is uploaded, and what customers and Stripe send has a few thousand. Twilio's forms
# have hundreds.
BODY = 256 << 10
VOICE_BODY = 64 << 10
HEAD = 64 << 10
# In how many pieces a body may come: a read of the socket, a chunk. An Ethernet packet has 1.4 KB.
PIECES = 1_000

# Seconds. From a connection's first byte to its request's last; and from an answer's end in our
# memory to its end at the client, or for an engine, which has less in memory, without progress.
REQUEST_WITHIN_S = 20.0
ANSWER_WITHIN_S = 30.0
# How long a client may take to close its side, so that it sees the answer before a reset.
LINGER_S = 2.0

# Connections that wait for their client, in one process; the oldest makes room for a new one.
WAITING = 256
# Bytes that those of a web process hold. One answer may have more than any static file has.
WAITING_BYTES = 64 << 20
ANSWER = 4 << 20


def most_body(path: str) -> int:
    """Return how many bytes a request to the path may send along."""
    is_voice = path == VOICE_PATH or path.startswith(f"{VOICE_PATH}/")
    return VOICE_BODY if is_voice else BODY
