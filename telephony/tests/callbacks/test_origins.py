"""Origins, in Python and in the database."""

from __future__ import annotations

import pytest

from accounts.models import Account
from telephony.callbacks.origins import origin_of, shown
from telephony.models import Call, CallbackDelivery

URLS = {
    "https://Backend.Example.com/a?b=1": ("https://backend.example.com:443", "https://backend.example.com"),
    "https://backend.example.com:443": ("https://backend.example.com:443", "https://backend.example.com"),
    "https://backend.example.com:0443/": ("https://backend.example.com:443", "https://backend.example.com"),
    "https://backend.example.com:?x": ("https://backend.example.com:443", "https://backend.example.com"),
    "https://backend.example.com:8443/a": ("https://backend.example.com:8443", "https://backend.example.com:8443"),
    "https://backend.example.com:80/a": ("https://backend.example.com:80", "https://backend.example.com:80"),
    "https://backend.example.com#https://x:443": ("https://backend.example.com:443", "https://backend.example.com"),
    "http://127.0.0.1:80/a//b": ("http://127.0.0.1:80", "http://127.0.0.1"),
    "http://127.0.0.1:8002/backend": ("http://127.0.0.1:8002", "http://127.0.0.1:8002"),
    "https://[2001:DB8::1]/x": ("https://[2001:db8::1]:443", "https://[2001:db8::1]"),
    "https://[2001:db8::1]:8443/x": ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
}  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_an_origin_is_normalized(url: str) -> None:
    origin, short = URLS[url]
    assert (origin_of(url), shown(origin)) == (origin, short)
    assert origin_of(short) == origin, "and back"


@pytest.mark.django_db
@pytest.mark.parametrize("url", URLS)
def test_the_database_finds_the_same_origin(url: str, alice: Account, call: Call) -> None:
    delivery = CallbackDelivery.objects.create(account=alice, call=call, kind="onError", url=url)
    assert list(CallbackDelivery.objects.to_endpoint(URLS[url][1])) == [delivery]
