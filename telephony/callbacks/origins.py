"""The server that a URL leads to: its origin, in normalized form."""

from __future__ import annotations

from urllib.parse import urlsplit

_DEFAULT_PORTS = frozenset({("https", "443"), ("http", "80")})


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL in normalized form."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def shown(origin: str) -> str:
    """Return an origin as people write it, and as ``telephony.models.ORIGIN`` finds it."""
    scheme, _, rest = origin.partition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme}://{host}" if (scheme, port) in _DEFAULT_PORTS else origin
