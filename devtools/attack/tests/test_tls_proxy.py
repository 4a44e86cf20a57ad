"""The proxy adds its headers, and removes those that clients send."""

from __future__ import annotations

from devtools.attack.tls_proxy import forwarded


def test_a_request_is_passed_on_with_who_sent_it() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: keep-alive\r\n\r\n"
    assert forwarded(head, "192.0.2.1").split(b"\r\n") == [
        b"GET / HTTP/1.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-For: 192.0.2.1",
        b"Connection: close",
        b"Host: a.example.com",
        b"",
        b"",
    ]


def test_an_upgrade_stays_one() -> None:
    head = b"GET /media HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert b"Connection: Upgrade\r\n" in forwarded(head, "192.0.2.1")
    assert b"close" not in forwarded(head, "192.0.2.1")
