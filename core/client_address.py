"""The network that a request comes from, determined so that the client cannot spoof it."""

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

    A client with one IPv6 address can use all 2^64 of its network. If no address can be parsed, the
    result is ``unknown``.
    """
    address = _address(_last_untrusted_hop(forwarded_for)) or _address(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address or UNKNOWN)


def _last_untrusted_hop(forwarded_for: str) -> str:
    """Return the address that connected to the outermost trusted proxy.

    Each of the ``TRUSTED_PROXIES`` proxies appends its peer's address to the header. So the last
    ``TRUSTED_PROXIES`` entries are theirs; the client can have written all before them.
    """
    entries = forwarded_for.split(",")
    theirs = entries[-settings.TRUSTED_PROXIES :] if settings.TRUSTED_PROXIES else []
    return theirs[0] if theirs else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address such as ``192.0.2.1`` or ``2001:db8::1``; some proxies append a port."""
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
