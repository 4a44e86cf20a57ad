"""Rules for the URLs of a customer's backend.

This module resolves no names: a name can point elsewhere a minute later. So the callback client
checks the address that it connects to. This module refuses what can never work, while the customer
is there to read why.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

LONGEST_URL = 2000

_VISIBLE_ASCII = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # and no backslash: clients disagree on it
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]+")
_LOCAL_NAME = re.compile(
    r"(?:.*\.)?(?:localhost|local|localdomain|internal|intranet|private|corp|home|lan|home\.arpa)"
)
# All of IANA's registries of special-purpose addresses: not even the reachable ones belong to a
# customer. Python has them too (``is_global``), but they differ by version.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC_4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a provider's customers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and the metadata of Oracle's
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays from 6to4
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved
        "168.63.129.16/32",  # in no registry: the metadata of Azure's machines
    )
)
# https://www.iana.org/assignments/iana-ipv6-special-registry, as far as it is in allocated space.
# It includes the ranges that wrap an IPv4 address (Teredo, 6to4).
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, AMT, AS112, drones
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def callback_url_problem(url: str) -> str | None:
    """Return the problem with a callback URL in one sentence; None for a URL that may be called.

    It must be ``https://``, with a public host and no credentials. ``CALLBACK_ALLOW_PRIVATE``
    (development) allows ``http://`` and every host.
    """
    scheme_rule = (
        "Use an http:// or https:// URL."
        if settings.CALLBACK_ALLOW_PRIVATE
        else "Use a public https:// URL."
    )
    if len(url) > LONGEST_URL:
        return f"Use at most {LONGEST_URL} characters."
    parts = _split(url)
    if parts is None or parts.scheme not in _schemes():
        return scheme_rule
    if "@" in parts.netloc:
        return "Leave the username and password out of the URL: callbacks are signed."
    if not settings.CALLBACK_ALLOW_PRIVATE and not is_public_host(parts.hostname or ""):
        return f"Use a public host: {parts.hostname} cannot be reached from the internet."
    return None


def is_public_host(host: str) -> bool:
    """Return True if a host name or literal address could be reachable from the internet."""
    try:
        return is_public_address(ip_address(host))
    except ValueError:
        pass
    name = host.lower().removesuffix(".")
    # An all-number last label is an address in another notation (127.1, 0x7f000001).
    is_number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2])
    return bool(_HOST_NAME.fullmatch(name)) and not is_number and not _LOCAL_NAME.fullmatch(name)


def is_public_address(address: IPv4Address | IPv6Address) -> bool:
    """Return True if an address is public, and wraps no IPv4 address that is not."""
    if isinstance(address, IPv6Address):
        return address in _GLOBAL_UNICAST and not any(address in block for block in _NOT_PUBLIC_6)
    return not any(address in block for block in _NOT_PUBLIC_4)


def _schemes() -> tuple[str, ...]:
    return ("https", "http") if settings.CALLBACK_ALLOW_PRIVATE else ("https",)


def _split(url: str) -> SplitResult | None:
    """Return the parts of an absolute URL with a host and a usable port."""
    if not _VISIBLE_ASCII.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def without_query(url: str) -> str:
    """Return a URL as pages show it: without what may be a credential, and not too long."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "not a URL"
    shown = f"{parts.scheme}://{host}{parts.path}"[:200]
    return f"{shown}?…" if parts.query else shown


def address_of(url: str) -> str:
    """Return a callback URL as emails name it, and as it may be stored: without its query."""
    return url.partition("?")[0].partition("#")[0]
