"""A hostile backend: responses of up to 1 MiB that cost their reader as much as possible.

Each is a whole HTTP response, so that its headers can be hostile too.
"""

from __future__ import annotations

import asyncio
import json
import string
from collections.abc import Iterable
from itertools import islice, product
from typing import Any

MIB = 2**20
PLAN = {
    "twilioAccountSid": "AC" + "0" * 32,
    "twilioAuthToken": "0" * 32,
    "openaiApiKey": "sk-0",
    "systemPrompt": "Be brief.",
    "onToolCallUrl": "https://example.com/tool",
}
ORDINARY = "ordinary"
_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def answers() -> dict[str, bytes]:
    """Return responses to onCallStart, keyed by their fault, and an ordinary one."""
    return {
        ORDINARY: _response(_plan(tools=[{"name": "look_up_order"}])),
        "69000-tools": _response(_plan(tools=_Raw(_tools(69_000)))),
        "20000-tools": _response(_plan(tools=_Raw(_tools(20_000)))),
        "zeros": _response(b'{"tools":' + _list([b"0"] * 500_000) + b"}"),
        "empty-lists": _response(b'{"tools":' + _list([b"[]"] * 340_000) + b"}"),
        "100000-fields": _response(_fields(100_000)),
        "10000-fields": _response(_fields(10_000)),
        "depth": _response(b'{"metadata":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        "deep-parameters": _response(
            _plan(tools=[{"name": "a", "parameters": {"a": _Raw(b"[" * 800 + b"]" * 800)}}])
        ),
        "metadata": _response(_plan(metadata=_Raw(_list([b"0"] * 500_000)))),
        "metadata-of-objects": _response(_plan(metadata=_Raw(_list([b'{"":0}'] * 90_000)))),
        "long-texts": _response(_plan(systemPrompt="a" * 500_000, greeting="é" * 80_000)),
        "wrong-names": _response(_plan(tools=[{"name": "é" * 200}] * 128)),
        "one-byte-chunks": _chunked(_plan(systemPrompt="a" * (MIB - 1_000))),
        "interim-responses": b"HTTP/1.1 100 \r\n\r\n" * (MIB // 16),
    }


def results() -> dict[str, bytes]:
    """Return responses to onToolCall."""
    return {
        ORDINARY: _response(b'{"result":"It is in the oven."}'),
        "large-result": _response(b'{"result":' + _list([b'{"":0}'] * 140_000) + b"}"),
        "dense-result": _response(b'{"result":' + _list([b"[]"] * 20_000) + b"}"),
        "deep-result": _response(b'{"result":' + b"[" * 900 + b"]" * 900 + b"}"),
    }


class _Raw:
    """JSON that is already encoded."""

    def __init__(self, text: bytes) -> None:
        self.text = text


def _plan(**fields: Any) -> bytes:
    raw: list[bytes] = []

    def mark(value: Any) -> str:
        raw.append(value.text)
        return f"<{len(raw) - 1}>"

    text = json.dumps({**PLAN, **fields}, ensure_ascii=False, default=mark).encode()
    for index, piece in enumerate(raw):
        text = text.replace(b'"<%d>"' % index, piece)
    return text


def _list(entries: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(entries) + b"]"


def _tools(count: int) -> bytes:
    """Return this many tools, each with its own name."""
    letters = product(string.ascii_letters, repeat=3)
    return _list(b'{"name":"%s"}' % "".join(name).encode() for name in islice(letters, count))


def _fields(count: int) -> bytes:
    return b"{" + b",".join(b'"%05d":0' % number for number in range(count)) + b"}"


def _response(body: bytes) -> bytes:
    return _HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _chunked(body: bytes) -> bytes:
    head = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


async def serve(responses: dict[str, bytes]) -> asyncio.Server:
    """Send each request the response that its path names, and close the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await reader.readexactly(int(head.lower().partition("content-length: ")[2].split()[0]))
            writer.write(responses[head.split(" ")[1].removeprefix("/")])
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has disconnected
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)
