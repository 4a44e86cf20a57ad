"""Which URLs a customer may have called."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from telephony.callback_urls import callback_url_problem, is_public_host


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
