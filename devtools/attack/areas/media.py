"""Media sockets: unauthenticated ones must cost next to nothing, and must be closed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from typing import Any

import aiohttp
import orjson

from devtools.attack.context import Context
from devtools.attack.people import make_line
from devtools.attack.product import MEDIA
from devtools.attack.report import Notes
from devtools.attack.voice import TwilioAccount, new_call_sid, open_media, start_message

NEEDS_NETWORK = False

_POLICY = 1008
_TOO_BIG = 1009
_RESET = 1006  # seen by a client that still sends and is no longer read
_START_WITHIN_S = 10.0
_MAY_GROW = 60 << 20
_PAYLOAD = "A" * 60_000
_MIB = 1 << 20


async def attack(context: Context, notes: Notes) -> None:
    engine = context.product.processes["engine"]
    worker = engine.worker()
    await _flood_before_start(context, notes)
    await _ping_without_reading(context, notes)
    context.later(_wait_in_silence(context, notes))
    await _show_bad_tickets(context, notes)
    await _say_odd_things(context, notes)
    await _ask_for_other_paths(context, notes)
    notes.expect("The engine's worker survives.", engine.worker() == worker, came=engine.worker())
    if context.is_apart:
        line = await make_line(context, context.people["tess"])
        call = await context.live_call(line)
        await asyncio.sleep(1)
        notes.expect("A caller is still connected.", call.is_open, sent="after all of it")
        await call.hang_up()


async def _flood_before_start(context: Context, notes: Notes) -> None:
    """Many sockets send megabytes each before they name their call."""
    engine = context.product.processes["engine"]
    before = engine.memory()
    count = 4 if context.is_short else 12
    sockets = [await open_media(context.session) for _ in range(count)]
    media = {"event": "media", "media": {"track": "inbound", "payload": _PAYLOAD}}
    message = orjson.dumps(media).decode()
    await asyncio.gather(*(_send_often(socket, message, 260) for socket in sockets))
    await asyncio.sleep(0.5)
    grown = engine.memory() - before
    notes.expect(
        "Nothing is kept for a socket without a ticket.",
        grown < _MAY_GROW * count / 12,
        sent=f"{count} sockets with 16 MB each, before any start",
        came=f"{grown / _MIB:.0f} MiB more",
    )
    for each in sockets:
        code = await _code_of(each, within=_START_WITHIN_S + 3)
        case = "A socket that never authenticates is closed."
        notes.expect(case, code in (_POLICY, _TOO_BIG, _RESET), sent="16 MB, no start", came=code)


async def _ping_without_reading(context: Context, notes: Notes) -> None:
    """Each ping asks for a pong. Pongs that nobody reads must not pile up."""
    engine = context.product.processes["engine"]
    before = engine.memory()
    await asyncio.gather(*(asyncio.to_thread(_pings, context) for _ in range(20)))
    grown = engine.memory() - before
    notes.expect(
        "Pongs that nobody reads are not kept.",
        grown < _MAY_GROW // 6,
        sent="20 sockets with 8 MB of pings each that read nothing",
        came=f"{grown / _MIB:.0f} MiB more",
    )


def _pings(context: Context) -> None:
    head = f"GET /media HTTP/1.1\r\nHost: {context.engine.host}\r\nUpgrade: websocket\r\n"
    head += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    head += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    with (
        socket.create_connection(("127.0.0.1", MEDIA), timeout=1) as connected,
        contextlib.suppress(OSError),
    ):
        connected.sendall(head.encode() + ping * ((8 << 20) // len(ping)))


async def _send_often(socket: aiohttp.ClientWebSocketResponse, message: str, times: int) -> None:
    with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(20):
            for _ in range(times):
                await socket.send_str(message)


async def _code_of(socket: aiohttp.ClientWebSocketResponse, *, within: float) -> int:
    """Return the close code of the other side; 0 if it stays, -1 if it disconnects."""
    try:
        async with asyncio.timeout(within):
            async for _ in socket:
                pass
    except TimeoutError:
        return 0
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            await socket.close()
    return socket.close_code or -1


async def _show_bad_tickets(context: Context, notes: Notes) -> None:
    account = context.people["alice"].twilio
    tickets: list[Any] = [
        *("", ".", "..", "x", "x.y", "\0", "\0.\0", "a" * 60_000, "." * 1000, "é.é", "%00.%00"),
        *(f"c{'0' * 24}.{secrets.token_urlsafe(32)}" for _ in range(10)),
        *(
            f"c{secrets.token_hex(12)}.{secrets.token_urlsafe(size)}"
            for size in (1, 15, 16, 31, 33)
        ),
        *("' OR 1=1 --." + "A" * 43, "c\0." + "A" * 43 + "=", "\ud7ff.AA==", "-1.AAAA"),
        *(None, 0, True, [], {}, ["a"], {"a": 1}, 1.5),
    ]
    starts = [start_message(account, new_call_sid(), ticket) for ticket in tickets]
    oddities: list[Any] = [None, [], "x", 0, {"ticket": {"a": []}}, {"TICKET": "x"}]
    starts += [
        start_message(account, new_call_sid(), "x.y", customParameters=odd) for odd in oddities
    ]
    starts += [start_message(account, sid, "x.y") for sid in ("", "\0", "x" * 50_000, "CA")]
    starts += [start_message(account, new_call_sid(), "x", accountSid=odd) for odd in ("\0", 1)]
    await asyncio.gather(
        *(_show(context, notes, start) for start in starts[:: 8 if context.is_short else 1])
    )


async def _show(context: Context, notes: Notes, start: dict[str, Any]) -> None:
    socket = await open_media(context.session, context.random.choice([None, TwilioAccount()]))
    with contextlib.suppress(OSError, RuntimeError):
        await socket.send_str(orjson.dumps(start).decode())
    media = {"event": "media", "media": {"track": "inbound", "payload": _PAYLOAD}}
    flood = asyncio.create_task(_send_often(socket, orjson.dumps(media).decode(), 20))
    code = await _code_of(socket, within=_START_WITHIN_S + 5)
    flood.cancel()
    sent = str(start["start"])
    notes.expect(
        "A bad ticket closes its socket with an error code.", code == _POLICY, sent=sent, came=code
    )


async def _say_odd_things(context: Context, notes: Notes) -> None:
    """Messages that are not Twilio's neither authenticate nor break anything."""
    messages = (
        *("", "x", "{}", "[]", "null", "0", '"start"', "{", '{"event":"start"}', '{"event":null}'),
        *('{"event":"start","start":null}', '{"event":"start","start":[]}', '{"event":["start"]}'),
        *('{"event":"media"}', '{"event":"media","media":0}', '{"event":"mark","mark":{}}'),
        *('{"event":"dtmf","dtmf":{"digit":{}}}', '{"event":"text","text":{"body":"\\u0000"}}'),
        *('{"event":"stop"}', "[" * 30_000, '{"a":' * 10_000, '"' + "x" * 60_000 + '"', "NaN"),
        *('{"event":"\\ud800"}', '{"event":"media","media":{"payload":"é"}}', "\0", "1" * 5000),
    )
    for message in messages[:: 4 if context.is_short else 1]:
        socket = await open_media(context.session)
        with contextlib.suppress(OSError, RuntimeError):
            await socket.send_str(message)
            await socket.send_bytes(message.encode())
            await socket.send_str('{"event":"stop"}')
        await asyncio.sleep(0.02)
        came = await _first_message(socket)
        notes.expect("A stranger receives nothing.", came is None, sent=message, came=came)
        await socket.close()


async def _first_message(socket: aiohttp.ClientWebSocketResponse) -> Any:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(0.05):
            message = await socket.receive()
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return message.data
    return None


async def _wait_in_silence(context: Context, notes: Notes) -> None:
    """Silent sockets are closed."""
    count = 10 if context.is_short else 150
    sockets = await asyncio.gather(*(open_media(context.session) for _ in range(count)))
    codes = await asyncio.gather(
        *(_code_of(socket, within=_START_WITHIN_S + 5) for socket in sockets)
    )
    for code in codes:
        notes.expect("A silent socket is closed.", code == _POLICY, sent="nothing", came=code)


async def _ask_for_other_paths(context: Context, notes: Notes) -> None:
    for path in ("/", "/media/x", "/voice", "/admin/", "/media%00", "//media"):
        try:
            socket = await open_media(context.session, port=MEDIA, path=path)
        except aiohttp.WSServerHandshakeError as refused:
            status = refused.status
        except (aiohttp.ClientError, OSError):
            status = 400
        else:
            await socket.close()
            status = 101
        notes.expect(
            "The media port serves nothing else.", status in (400, 404), sent=path, came=status
        )
