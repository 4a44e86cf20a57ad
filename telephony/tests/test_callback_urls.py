"""Rules for callback URLs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from telephony.callback_urls import callback_url_problem, is_public_address, is_public_host


@pytest.fixture(autouse=True)
def production(settings: Settings) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False


@pytest.mark.parametrize(
    "url",
    [
        "https://your-backend.com/calls/start",
        "https://a.b.example.co.uk:8443/x?tenant=7&q=%20#part",
        "https://xn--mnchen-3ya.example/",
        "HTTPS://Example.COM",
        "https://example.com./dot",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:443/",
        "https://under_score.example.com",
    ],
)
def test_a_public_https_url_may_be_called(url: str) -> None:
    assert callback_url_problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//example.com/",
        "example.com/start",
        "https:///start",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:port/",
        "https://[::1/",
        "https://exa mple.com/",
        "https://example.com/a\nHost: b",
        "https://example.com/\x00",
        "https://example.com\\@10.0.0.1/",
        "https://münchen.example/",
        "https://example.com/" + "a" * 2000,
        "https://user:secret@example.com/",
        "https://@example.com/",
    ],
)
def test_what_is_no_such_url_is_refused(url: str) -> None:
    assert callback_url_problem(url)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "db.localhost",
        "printer.local",
        "metadata.google.internal",
        "router.home.arpa",
        "intranet",
        "example..com",
        "-example.com",
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",  # noqa: S104 (an address, not a bind)
        "224.0.0.1",
        "255.255.255.255",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
def test_a_host_of_ours_or_of_nobody_is_not_public(host: str) -> None:
    assert not is_public_host(host)
    problem = callback_url_problem(f"https://[{host}]/" if ":" in host else f"https://{host}/")
    assert problem
    assert "Use a public host" in problem


@pytest.mark.parametrize(
    "block",
    [
        # https://www.iana.org/assignments/iana-ipv4-special-registry
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32"),
        *("192.0.0.10/32", "192.0.0.170/31", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
        # https://www.iana.org/assignments/iana-ipv6-special-registry
        *("::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
        *("100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128"),
        *("2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28"),
        *("2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48"),
        *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    ],
)
def test_what_is_set_apart_is_not_public_on_any_version_of_python(block: str) -> None:
    network = ip_network(block)
    for address in (network[0], network[network.num_addresses // 2], network[-1]):
        assert not is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1"),
        *("128.0.0.0", "168.63.129.15", "168.63.129.17", "172.15.255.255", "172.32.0.0"),
        *("192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255"),
        *("198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
        *("2001:200::", "2001:db7:ffff::", "2001:db9::", "2003::", "2620:4f:7fff:ffff::"),
        *("2620:4f:8001::", "2a00:1450::1", "3ffe:ffff::", "3fff:1000::"),
    ],
)
def test_what_lies_beside_it_is(address: str) -> None:
    assert is_public_address(ip_address(address))


@given(st.ip_addresses())
def test_python_does_not_know_better(address: IPv4Address | IPv6Address) -> None:
    """It would, if a block was set apart that is not in our list yet."""
    assert address.is_global or not is_public_address(address)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8002/backend/start", "http://localhost/", "https://backend:9000/x"]
)
def test_development_may_call_its_own_machine(settings: Settings, url: str) -> None:
    assert callback_url_problem(url)
    settings.CALLBACK_ALLOW_PRIVATE = True
    assert callback_url_problem(url) is None


@pytest.mark.parametrize("url", ["ftp://localhost/", "http://user@localhost/", "http:///", "x"])
def test_development_has_its_rules_too(settings: Settings, url: str) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = True
    assert callback_url_problem(url)
