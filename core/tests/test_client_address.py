from __future__ import annotations

import pytest
from django.test import RequestFactory

from core.client_address import client_network


def network_of(remote: str, forwarded: str | None = None) -> str:
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return client_network(RequestFactory().get("/", REMOTE_ADDR=remote, **headers))


def test_without_a_header_the_peer_is_the_client() -> None:
    assert network_of("192.0.2.1") == "192.0.2.1"


def test_without_proxies_the_header_is_ignored() -> None:
    assert network_of("192.0.2.1", "198.51.100.7") == "192.0.2.1"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.99, 198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.99,203.0.113.98,198.51.100.7", "198.51.100.7"),
        (1, ", ,198.51.100.7 ", "198.51.100.7"),
        (2, "203.0.113.99, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        (2, "198.51.100.7", "198.51.100.7"),  # it bypassed the outer proxy
    ],
)
def test_only_entries_of_trusted_proxies_count(
    settings, proxies: int, forwarded: str, client: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    assert network_of("10.0.0.1", forwarded) == client


@pytest.mark.parametrize("forwarded", [None, "", "unknown", "203.0.113.99, _hidden", "1.2.3.4.5"])
def test_without_a_valid_entry_the_proxy_is_the_client(settings, forwarded) -> None:
    settings.TRUSTED_PROXIES = 1
    assert network_of("10.0.0.1", forwarded) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("[2001:db8:1:2::1]:4711", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
    ],
)
def test_addresses_are_parsed_into_networks(settings, address: str, network: str) -> None:
    settings.TRUSTED_PROXIES = 1
    assert network_of("10.0.0.1", address) == network


def test_a_unix_socket_has_no_address() -> None:
    assert network_of("") == "unknown"
