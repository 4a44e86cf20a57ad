"""Which URLs a customer may have called.

Nothing is resolved here: a name can point elsewhere a minute later, so the address that counts is
the one that the callback client connects to. What is refused here is what can never work, in time
for the customer to read it.
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
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# They count as public, but are where Oracle's and Azure's machines find their metadata.
_METADATA = (IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))


def callback_url_problem(url: str) -> str | None:
    """Say what is wrong with a callback URL, in one sentence; None when it may be called.

    It must be ``https://``, with a public host and no credentials. ``CALLBACK_ALLOW_PRIVATE``
    (development) lets ``http://`` and every host pass.
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
        return "Leave user name and password out of the URL: callbacks are signed."
    if not settings.CALLBACK_ALLOW_PRIVATE and not is_public_host(parts.hostname or ""):
        return f"Use a public host: {parts.hostname} cannot be reached from the internet."
    return None


def is_public_host(host: str) -> bool:
    """Whether a host name or literal address could be reached from the internet."""
    try:
        return is_public_address(ip_address(host))
    except ValueError:
        pass
    name = host.lower().removesuffix(".")
    # An all-number last label is an address in one of its other spellings (127.1, 0x7f000001).
    is_number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2])
    return bool(_HOST_NAME.fullmatch(name)) and not is_number and not _LOCAL_NAME.fullmatch(name)


def is_public_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is a public one, and no wrapping of an IPv4 address that may not be."""
    if isinstance(address, IPv6Address):
        wraps_ipv4 = address.sixtofour is not None or address.teredo is not None
        return address in _GLOBAL_UNICAST and address.is_global and not wraps_ipv4
    is_metadata = any(address in network for network in _METADATA)
    return address.is_global and not address.is_multicast and not is_metadata


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
