"""Where a request comes from, as far as the client has no say in it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "unknown"


def client_network(request: HttpRequest) -> str:
    """Return :func:`network_of` the request's client."""
    return network_of(request.META.get("HTTP_X_FORWARDED_FOR", ""), request.META["REMOTE_ADDR"])


def network_of(forwarded_for: str, peer: str) -> str:
    """Return the client's IPv4 address, or the /64 that its IPv6 address is in.

    Whoever has one IPv6 address has the 2^64 of its network. What cannot be read is ``unknown``.
    """
    address = _address(_last_untrusted_hop(forwarded_for)) or _address(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address or UNKNOWN)


def _last_untrusted_hop(forwarded_for: str) -> str:
    """Return what the outermost of our proxies saw.

    Each of ``TRUSTED_PROXIES`` proxies appends to ``X-Forwarded-For`` whom it was asked by. Of the
    entries, that many at the end are theirs; the client can have written all those before.
    """
    entries = forwarded_for.split(",")
    theirs = entries[-settings.TRUSTED_PROXIES :] if settings.TRUSTED_PROXIES else []
    return theirs[0] if theirs else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read ``192.0.2.1``, ``2001:db8::1``, and both as some proxies write them, with a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
