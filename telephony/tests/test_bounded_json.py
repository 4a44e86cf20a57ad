"""JSON from others: what is decoded, in which thread, and what is refused."""

from __future__ import annotations

import threading

import pytest

from telephony.bounded_json import (
    LARGE,
    MOST_CONTAINERS,
    NotUsable,
    beside_the_loop,
    decoded,
    decoded_leniently,
)


@pytest.mark.parametrize(("body", "value"), [(b"1", 1), (b'{"a":[null]}', {"a": [None]})])
def test_it_works(body: bytes, value: object) -> None:
    assert decoded(body) == value


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is not JSON"),
        (b"<html>", "is not JSON"),
        (b"[1", "is not JSON"),
        (b"[NaN]", "is not JSON"),
        (b"[1e999]", "is not JSON"),
        (b'["\\ud800"]', "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 5_000 + b"]" * 5_000, "is nested more than 32 deep"),
        (b'{"a":' * 5_000, "is nested more than 32 deep"),
        (
            b"[" + b"[]," * MOST_CONTAINERS + b"1]",
            "has more than 25,000 lists and objects",
        ),
        (
            b"{" + b",".join(b'"%d":0' % number for number in range(50_001)) + b"}",
            "has more than 50,000 members of objects",
        ),
    ],
    ids=lambda value: str(value)[:10],
)
def test_what_is_not_read(body: bytes, why: str) -> None:
    with pytest.raises(NotUsable) as raised:
        decoded(body)
    assert str(raised.value) == why


def test_text_is_not_counted_as_lists() -> None:
    assert decoded(b'"' + b"[" * 1_000 + b'"') == "[" * 1_000
    assert len(decoded(b"[" + b"[]," * 24_999 + b"1]")) == 25_000


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [NaN, -Infinity, 1e999, 1.5]}', {"a": [None, None, None, 1.5]}),
        (rb'{"\ud83d": "x\ude00 \ud83d\ude00"}', {"?": "x? \U0001f600"}),
    ],
)
def test_what_json_cannot_say_spoils_nothing_else(body: bytes, value: object) -> None:
    assert decoded_leniently(body) == value
    with pytest.raises(NotUsable):
        decoded(body)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 2_000, b"[NaN" + b",[]" * 30_000 + b"]"]
)
def test_what_is_not_read_leniently_either(body: bytes) -> None:
    with pytest.raises(NotUsable):
        decoded_leniently(body)


async def test_much_is_read_beside_the_loop() -> None:
    here = threading.current_thread()
    assert await beside_the_loop(LARGE, threading.current_thread) is here
    others = {await beside_the_loop(LARGE + 1, threading.current_thread) for _ in range(9)}
    assert len(others) == 1
    assert here not in others
