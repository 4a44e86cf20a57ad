"""The trace of a call: ``traceparent`` of the W3C, which each callback has.

All that Switchhook does for a call is one trace. Its id follows from the call's, so every process
knows it, and no webhook, ticket or job has to carry it. A ``traceparent`` from outside is never
read: it would let a stranger add to another trace.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b


def trace_of(call_id: str) -> str:
    """Return the id of a call's trace: 32 hexadecimal digits."""
    return blake2b(call_id.encode(), digest_size=16, person=b"trace").hexdigest()


def span_of(call_id: str, name: str) -> str:
    """Return the id of a span of which a call has one: 16 hexadecimal digits."""
    return blake2b(f"{name} {call_id}".encode(), digest_size=8, person=b"span").hexdigest()


def new_span() -> str:
    """Return the id of any other span."""
    return secrets.token_hex(8)


def traceparent(call_id: str, span: str) -> str:
    """Return the header for a request that is the span.

    Its last digits tell the backend's tracing to record the request as it would without it, even
    if Switchhook exports no traces: most tracers drop what their caller has not recorded.
    """
    return f"00-{trace_of(call_id)}-{span}-01"
