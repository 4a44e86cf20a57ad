"""Responses of a customer's backend that are too large, too deep, too slow, or nonsense.

Meanwhile another caller talks on the same engine: nothing must keep that engine busy.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from aiohttp import web

from devtools.attack.context import Context
from devtools.attack.internet import until
from devtools.attack.people import Line, make_line
from devtools.attack.report import Notes
from devtools.attack.voice import LiveCall, new_call_sid, plan, read, ring

NEEDS_NETWORK = True

# Longer than the pauses of a busy machine, and far below the effect of an attack.
_LONGEST_GAP_S = 0.3
_LONGEST_ANSWER_S = 14.0
_LONGEST_TEXT = 4 << 10
_MOST_METADATA = 16 << 10
_MAY_GROW = 200 << 20
_CHECK_CPU_S = 2.5
_MIB = 1 << 20


async def attack(context: Context, notes: Notes) -> None:
    line = await make_line(context, context.people["hank"])
    quiet = await make_line(context, context.people["alice"])
    engine = context.product.processes["engine"]
    memory = engine.memory()
    watch = _Watch(context, quiet)
    for name, answer in _hostile(context, line.twilio):
        await _try(context, notes, line, watch, name, answer)
    await _try_all_at_once(context, notes, line, watch)
    grown = engine.memory() - memory
    sent, came = "all hostile answers", f"{grown / _MIB:.0f} MiB more"
    notes.expect("Responses do not stay in memory.", grown < _MAY_GROW, sent=sent, came=came)
    await _check_them(context, notes)
    await _try_tools(context, notes, line, watch)
    await watch.end()


class _Watch:
    """The pauses in the other call's audio, without those that this process caused."""

    def __init__(self, context: Context, line: Line) -> None:
        self._context = context
        self._line = line
        self._call: LiveCall | None = None
        self._heard: list[float] = []
        self._worker = 0
        self._began = 0.0
        self._late = 0.0
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Watch:
        if self._call is None or not self._call.is_open:
            await self._call_again()
        self._began, self._late = time.monotonic(), 0.0
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticking:
            self._ticking.cancel()

    async def end(self) -> None:
        if self._call:
            await self._call.hang_up()

    @property
    def is_undisturbed(self) -> bool:
        """Return True if the call continues in the process that it began in."""
        is_open = self._call is not None and self._call.is_open
        return is_open and self._context.product.processes["engine"].worker() == self._worker

    async def _call_again(self) -> None:
        """Start the other call, again if it was ended."""
        answer = plan(self._line.twilio)
        self._line.desk.answer = answer
        self._call = await self._context.live_call(self._line)
        self._worker = self._context.product.processes["engine"].worker()
        heard = self._context.internet.heard.setdefault(answer["openaiApiKey"], [])
        await until(lambda: heard, within=10)
        self._heard = heard

    def longest_gap(self) -> float:
        times = [at for at in self._heard if at >= self._began]
        points = [self._began, *times, time.monotonic()]
        gap = max(after - before for before, after in itertools.pairwise(points))
        return max(0.0, gap - self._late)

    async def _tick(self) -> None:
        """Measure how late this process itself is."""
        while True:
            due = time.monotonic() + 0.01
            await asyncio.sleep(0.01)
            self._late = max(self._late, time.monotonic() - due)


async def _try(
    context: Context, notes: Notes, line: Line, watch: _Watch, name: str, answer: Any
) -> None:
    line.desk.answer = answer
    sid = new_call_sid()
    async with watch:
        came = await ring(context.engine, to=line.number, account=line.twilio, call_sid=sid)
        await asyncio.sleep(0.1)
        gap = watch.longest_gap()
    sent = f"onCallStart: {name}"
    notes.expect(
        "No backend can end another customer's call.",
        watch.is_undisturbed,
        sent=sent,
        came="the other call has ended, or the engine's worker was killed",
    )
    notes.expect(
        "A backend's response does not delay other calls.",
        gap < _LONGEST_GAP_S,
        sent=sent,
        came=f"the other call heard nothing for {gap:.2f} s",
    )
    notes.expect(
        "A call is answered in time, whatever its backend returns.",
        not came.is_failure and came.seconds < _LONGEST_ANSWER_S,
        sent=sent,
        came=f"{came.seconds:.1f} s, {came}",
    )
    await _texts_are_short(context, notes, line, sid, sent)
    if read(came).connects:  # it would count as a call in progress
        call = await context.connected(line, sid, came)
        await call.hang_up()


async def _texts_are_short(context: Context, notes: Notes, line: Line, sid: str, sent: str) -> None:
    """Error texts are short in the timeline, the API and onError."""
    answer = await context.api(line.person, "GET", f"/api/calls/{sid}")
    longest = _longest_text(answer.json)
    notes.expect(
        "Error texts about a response have at most 4 KB.",
        longest <= _LONGEST_TEXT,
        sent=sent,
        came=f"a text of {longest:,} characters, in an answer of {len(answer.body):,} bytes",
    )
    await until(lambda: any(body["callSid"] == sid for body in line.desk.to("error")), within=0.2)
    told = [body for body in line.desk.to("error") if body["callSid"] == sid]
    longest = max((_longest_text(body) for body in told), default=0)
    notes.expect(
        "onError has at most 4 KB.",
        longest <= _LONGEST_TEXT,
        sent=sent,
        came=f"{longest:,} characters",
    )


def _longest_text(thing: Any) -> int:
    """Return the length of the longest text in JSON, except in valid metadata."""
    match thing:
        case str():
            return len(thing)
        case dict():
            told = {name: each for name, each in thing.items() if not _is_kept(name, each)}
            return max(map(_longest_text, [*told, *told.values()]), default=0)
        case list():
            return max(map(_longest_text, thing), default=0)
    return 0


def _is_kept(name: str, thing: Any) -> bool:
    return name == "metadata" and len(orjson.dumps(thing)) <= _MOST_METADATA


# Responses to onCallStart


def _hostile(context: Context, account: Any) -> Iterator[tuple[str, Any]]:
    answers = [*_large(account), *_odd(account), *_slow(account)]
    if context.is_short:
        chosen = ("69,000 tools", "a list of zeros as tools", "deep metadata")
        answers = [each for each in answers if each[0] in chosen]
    yield from answers


def _large(account: Any) -> list[tuple[str, Any]]:
    whole = plan(account, onToolCallUrl="https://backend.example.com/x/tool")

    def body(**changes: Any) -> bytes:
        return orjson.dumps(whole | changes)[:_MIB]

    def raw(name: str, value: bytes) -> bytes:
        rest = orjson.dumps({key: each for key, each in whole.items() if key != name})[1:]
        return b'{"' + name.encode() + b'":' + value + b"," + rest

    return [
        ("129 tools", body(tools=_tools(129))),
        ("2,000 tools", body(tools=_tools(2_000))),
        ("20,000 tools", raw("tools", _tiny_tools(20_000))),
        ("69,000 tools", raw("tools", _tiny_tools(60_000))),
        (
            "one tool 60,000 times",
            raw("tools", b"[" + b",".join([b'{"name":"a"}'] * 60_000) + b"]"),
        ),
        ("a list of zeros as tools", raw("tools", b"[" + b"0," * 500_000 + b"0]")),
        ("a list of lists as tools", raw("tools", b"[" + b"[]," * 300_000 + b"[]]")),
        ("tools without a name", raw("tools", b"[" + b"{}," * 300_000 + b"{}]")),
        ("a list of zeros as builtinTools", raw("builtinTools", b"[" + b"0," * 500_000 + b"0]")),
        (
            "builtinTools a million times",
            raw("builtinTools", b"[" + b'"end_call",' * 85_000 + b'"end_call"]'),
        ),
        ("metadata of 1 MB", raw("metadata", b'"' + b"x" * (_MIB - 2000) + b'"')),
        ("metadata of 17 KB", body(metadata="x" * 17_000)),
        ("a list of zeros as metadata", raw("metadata", b"[" + b"0," * 500_000 + b"0]")),
        ("a systemPrompt of 1 MB", raw("systemPrompt", b'"' + b"x" * (_MIB - 2000) + b'"')),
        ("a greeting of 1 MB", raw("greeting", b'"' + b"\\u0000" * 170_000 + b'"')),
        ("a message of 1 MB", b'{"reject":true,"message":"' + b"x" * (_MIB - 100) + b'"}'),
        ("a token of 1 MB", raw("twilioAuthToken", b'"' + b"x" * (_MIB - 2000) + b'"')),
        ("a key of 1 MB", raw("openaiApiKey", b'"' + b"x" * (_MIB - 2000) + b'"')),
        ("100,000 unknown fields", b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}"),
        ("long names of fields", body(tools=[{"name": "x" * 500_000, "parameters": {}}])),
        ("2 MB", b" " * (2 * _MIB)),
        ("deep metadata", raw("metadata", b"[" * 100_000 + b"]" * 100_000)),
        ("metadata 250 deep", raw("metadata", b'{"a":' * 250 + b"1" + b"}" * 250)),
        ("metadata 500 deep", raw("metadata", b"[" * 500 + b"]" * 500)),
        ("metadata 33 deep", raw("metadata", b"[" * 33 + b"]" * 33)),
        ("a tool 800 deep", raw("tools", _deep_tool(800))),
        ("a tool 240 deep", raw("tools", _deep_tool(240))),
        (
            "a wide tool",
            raw("tools", b'[{"name":"a","parameters":{"enum":[' + b"0," * 400_000 + b"0]}}]"),
        ),
    ]


def _tools(count: int) -> list[dict[str, Any]]:
    return [{"type": "function", "name": f"t{n}", "parameters": {}} for n in range(count)]


def _tiny_tools(count: int) -> bytes:
    return b"[" + b",".join(b'{"name":"%x"}' % n for n in range(count)) + b"]"


def _deep_tool(depth: int) -> bytes:
    return b'[{"name":"a","parameters":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}]"


def _odd(account: Any) -> list[tuple[str, Any]]:
    """Each field with each wrong type, and invalid bodies."""
    wrong: tuple[Any, ...] = (
        0,
        -1,
        1.5,
        True,
        [],
        {},
        [0],
        {"a": 1},
        "\0",
        "x\ny",
        "é" * 100,
        2**62,
    )
    whole = plan(account, onToolCallUrl="https://backend.example.com/x/tool", reject=None)
    names = (*whole, "transfer", "reason", "message", "voice", "vadEagerness", "builtinTools")
    names += ("noiseReduction", "greetingUrl", "greeting", "maxDurationSeconds", "metadata")
    fields = [
        (f"{name} is {value!r:.20}", whole | {name: value}) for name in names for value in wrong
    ]
    bodies = [
        b"",
        b"null",
        b"[]",
        b"0",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b"NaN",
        b"<html>",
        b"[" * 50_000,
        orjson.dumps("\\" * 8_000),
        orjson.dumps({"headers": [f"{n:06}" for n in range(800)], "a": ["&amp;"] * 700}),
    ]
    refusals = [{"reject": True, "reason": value} for value in wrong]
    refusals += [{"reject": True, "message": value} for value in wrong]
    return [
        *fields,
        *((f"the body {body[:10]!r}", body) for body in bodies),
        *((f"{answer}", answer) for answer in refusals),
    ]


def _slow(account: Any) -> list[tuple[str, Any]]:
    good = orjson.dumps(plan(account))
    return [
        ("a gzip bomb", _sends(gzip.compress(b" " * (200 * _MIB)), encoding="gzip")),
        ("a deflate bomb", _sends(gzip.compress(b"[" * (50 * _MIB)), encoding="deflate")),
        ("an unknown encoding", _sends(good, encoding="rot13")),
        ("one byte at a time", _in_pieces(good, count=len(good), pause=0.001)),
        ("100,000 chunks of a byte", _in_pieces(b"x" * 100_000, count=100_000, pause=0)),
        ("a body that never ends", _in_pieces(b" " * 2000, count=2000, pause=0.05)),
        ("no response at all", _never),
        ("a status of 500", _sends(b"x" * _MIB, status=500)),
        ("a status of 204", _sends(b"", status=204)),
        ("300 headers", _sends(good, headers={f"X-{n}": "x" * 100 for n in range(300)})),
        ("a truncated response", _cut),
    ]


def _sends(
    body: bytes, *, status: int = 200, encoding: str = "", headers: dict[str, str] | None = None
) -> Callable[[web.Request], Any]:
    async def handler(_request: web.Request) -> web.Response:
        sent = {**(headers or {}), **({"Content-Encoding": encoding} if encoding else {})}
        return web.Response(body=body, status=status, headers=sent, content_type="application/json")

    return handler


def _in_pieces(body: bytes, *, count: int, pause: float) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        size = max(1, len(body) // count)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            if pause or start % 1000 == 0:
                await asyncio.sleep(pause)
        await response.write_eof()
        return response

    return handler


async def _never(_request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def _cut(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _try_all_at_once(context: Context, notes: Notes, line: Line, watch: _Watch) -> None:
    """Ten hostile backends respond at the same time."""
    answers = itertools.cycle(each for _, each in _large(line.twilio)[2:12])

    async def handler(_request: web.Request) -> web.Response:
        body = next(answers)
        return web.Response(body=body, content_type="application/json")

    line.desk.answer = handler
    async with watch:
        rings = [ring(context.engine, to=line.number, account=line.twilio) for _ in range(10)]
        await asyncio.gather(*rings)
        gap = watch.longest_gap()
    notes.expect(
        "Ten hostile backends do not delay other calls.",
        gap < _LONGEST_GAP_S,
        sent="ten answers of up to 1 MB at once",
        came=f"the other call heard nothing for {gap:.2f} s",
    )


# Tools


async def _try_tools(context: Context, notes: Notes, line: Line, watch: _Watch) -> None:
    """The result of a tool goes to the model, during a call."""
    script = '```sandbox\n[{"call": "look_up", "arguments": {}}, {"say": "Well."}]\n```'
    results: list[tuple[str, Any]] = [
        ("a result of 1 MB", b'{"result":"' + b"x" * (_MIB - 100) + b'"}'),
        ("a deep result", b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("a result 250 deep", b'{"result":' + b"[" * 250 + b"]" * 250 + b"}"),
        ("a list of zeros", b'{"result":[' + b"0," * 500_000 + b"0]}"),
        ("a gzip bomb", _sends(gzip.compress(b" " * (100 * _MIB)), encoding="gzip")),
        ("lone surrogates", b'{"result":"\\ud800"}'),
        ("nothing", b""),
        ("800 secrets", orjson.dumps({"headers": [f"{n:06}" for n in range(800)]})),
        ("backslashes", orjson.dumps("\\" * 8_000)),
    ]
    for name, result in results[:: 4 if context.is_short else 1]:
        line.desk.tool = result
        line.desk.answer = plan(
            line.twilio, line.desk, systemPrompt=f"Help.\n{script}", model="gpt-realtime-1.5"
        )
        asked = len(line.desk.to("tool"))
        async with watch:
            call = await context.live_call(line, frame_every=0.2)
            await asyncio.sleep(0.5)
            await call.press("1")
            await until(lambda asked=asked: len(line.desk.to("tool")) > asked, within=6)  # type: ignore[misc]
            await asyncio.sleep(0.7)
            gap = watch.longest_gap()
        sent = f"onToolCall: {name}"
        was_asked = len(line.desk.to("tool")) > asked
        notes.expect("A tool is called.", was_asked, sent=sent)
        notes.expect(
            "A tool's result does not delay other calls.",
            gap < _LONGEST_GAP_S,
            sent=sent,
            came=f"{gap:.2f} s",
        )
        case = "A tool's result does not affect other calls."
        notes.expect(case, watch.is_undisturbed, sent=sent, came="it is ended")
        await call.hang_up()


# The backend test in the dashboard


async def _check_them(context: Context, notes: Notes) -> None:
    tess = context.people["tess"]
    line = await make_line(context, tess)
    browser = await context.browser(tess)
    process = context.product.processes["web"]
    answers = dict(_large(line.twilio))
    names = [
        *("20,000 tools", "69,000 tools", "metadata 500 deep", "a list of zeros as tools"),
        *("deep metadata", "metadata of 1 MB", "a tool 800 deep", "100,000 unknown fields"),
    ]
    for name in names[1 : 4 if context.is_short else None]:
        line.desk.answer = answers[name]
        before = process.cpu_seconds()
        form = {"check-number": line.id, "check-caller": ""}
        page = await browser.post("/dashboard/test-call/check", form, patience=60)
        used = process.cpu_seconds() - before
        sent = f"the check of an answer with {name}"
        notes.expect("A backend test shows its result.", page.status == 200, sent=sent, came=page)
        notes.expect(
            "A backend test costs little CPU.",
            used < _CHECK_CPU_S,
            sent=sent,
            came=f"{used:.1f} s of CPU",
        )
        size = len(page.body)
        notes.expect(
            "The page of a backend test is short.",
            size < 200_000,
            sent=sent,
            came=f"{size:,} bytes",
        )
