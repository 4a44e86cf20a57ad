"""Callbacks into the product's own network: by address, by name, by redirect."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from devtools.attack.context import Context
from devtools.attack.namespace import BACKEND
from devtools.attack.people import make_line, new_number
from devtools.attack.report import Notes
from devtools.attack.voice import plan, read, ring

NEEDS_NETWORK = True

ANY = "0.0.0.0"  # noqa: S104 # nosec B104 # it is connected to, not bound
PRIVATE = (
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.1", "192.168.0.1", "192.168.255.1"),
    *("127.0.0.1", "127.1.2.3", ANY, "0.1.2.3", "169.254.169.254", "169.254.170.2"),
    *("100.64.0.1", "100.127.255.1", "192.0.0.1", "192.0.0.192", "168.63.129.16", "198.18.0.1"),
    *("198.19.255.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "192.88.99.254"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
)
PRIVATE_6 = (
    *("::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::10.0.0.1"),
    *("fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::a00:1"),
    *("64:ff9b:1::a00:1", "2002:a00:1::", "2002:7f00:1::1", "2001:0:1::1", "2001:db8::1"),
    *("2001:10::1", "100::1", "3fff::1", "3fff:fff::1", "5f00::1"),
)
_NAMED = (*PRIVATE, *PRIVATE_6)
# Names that resolve to these addresses; the last ones have a public address too.
NAMES = [
    *((address, f"private-{number}.example.com") for number, address in enumerate(_NAMED)),
    *((address, "both-1.example.com") for address in (BACKEND, "10.0.0.1")),
    *((address, "both-2.example.com") for address in ("127.0.0.1", BACKEND)),
    *((address, "both-3.example.com") for address in ("fd00:ec2::254", BACKEND)),
]


async def attack(context: Context, notes: Notes) -> None:
    await _register_them(context, notes)
    await _resolve_them(context, notes)
    await _answer_with_them(context, notes)
    touched = context.tls_proxy.private_addresses()
    notes.expect("No private address was connected to.", not touched, came=touched[:20])


def _literals() -> list[str]:
    """Return URLs with private addresses, in every spelling that clients understand."""
    plain = [f"https://{address}/" for address in PRIVATE]
    six = [f"https://[{address}]/" for address in PRIVATE_6]
    ports = [f"https://{PRIVATE[0]}:{port}/" for port in (22, 443, 5432, 6379, 8000, 8443)]
    spelled = [
        f"https://{host}/"
        for host in (
            *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "017700000001"),
            *("10.1", "167772161", "0xA000001", "127.0.0.1.", "[::ffff:7f00:1]"),
            *("[0:0:0:0:0:ffff:127.0.0.1]", "[fe80::1%25eth0]", "127。0。0。1", "①②⑦.⓪.⓪.①"),
            *("localhost", "LOCALHOST", "localhost.", "a.localhost", "db.internal", "x.local"),
            *("router.lan", "x.home.arpa", "x.corp", "x.intranet", "x.localdomain", "single"),
            *("user@backend.example.com", "backend.example.com@10.0.0.1", "10.0.0.1#@example.com"),
            *("backend.example.com:0", "backend.example.com:99999", "back end.example.com", ""),
            *(
                "10.0.0.1\\@backend.example.com",
                "backend.example.com\t",
                "%31%30.0.0.1",
                "[::1",
                "*",
            ),
        )
    ]
    schemes = [
        f"{scheme}backend.example.com/"
        for scheme in (
            "http://",
            "ftp://",
            "file://",
            "gopher://",
            "//",
            "",
            "javascript:",
            "ws://",
        )
    ]
    return [*plain, *six, *ports, *spelled, *schemes, "https:10.0.0.1/", "https:///10.0.0.1/"]


async def _register_them(context: Context, notes: Notes) -> None:
    """Each is refused when a customer registers or changes a number, or places a call."""
    alice = context.people["alice"]
    line = await make_line(context, alice)
    literals = _literals()[:: 16 if context.is_short else 1]
    for url in literals:
        for name in ("onCallStartUrl", "onCallEndUrl", "onErrorUrl"):
            body = {"phoneNumber": new_number(), **line.desk.urls(), name: url}
            answers = [
                await context.api(alice, "POST", "/api/phone-numbers", body),
                await context.api(alice, "PATCH", f"/api/phone-numbers/{line.id}", {name: url}),
                await context.ask_for_call(line, **{name: url}),
            ]
            for answer in answers:
                notes.expect(
                    "A URL that is not public is refused.",
                    answer.is_refusal,
                    sent=f"{name} {url}",
                    came=answer,
                )


async def _resolve_them(context: Context, notes: Notes) -> None:
    """A public name with a private address is refused when it is called."""
    line = await make_line(context, context.people["bob"])
    names = list(dict.fromkeys(name for _, name in NAMES))
    for name in names[:: 16 if context.is_short else 1]:
        changes = {"onCallStartUrl": f"https://{name}/start", "onErrorUrl": f"https://{name}/error"}
        await context.api(line.person, "PATCH", f"/api/phone-numbers/{line.id}", changes)
        before = len(context.tls_proxy.private_addresses())
        came = await ring(context.engine, to=line.number, account=line.twilio)
        touched = context.tls_proxy.private_addresses()[before:]
        notes.expect(
            "A name that leads to a private address is not called.",
            not touched and "Stream" not in read(came).verbs,
            sent=f"onCallStartUrl https://{name}/, which is {_addresses_of(name)}",
            came=touched or came,
        )


def _addresses_of(name: str) -> list[str]:
    return [address for address, known in NAMES if known == name]


async def _answer_with_them(context: Context, notes: Notes) -> None:
    """A backend redirects to them, or names them in its response."""
    line = await make_line(context, context.people["hank"])
    urls = [f"https://{address}/" for address in PRIVATE] + [f"https://[{a}]/" for a in PRIVATE_6]
    for url in urls[:: 20 if context.is_short else 1]:
        for name in ("greetingUrl", "onToolCallUrl"):
            line.desk.answer = plan(line.twilio, line.desk, **{name: url})
            await _is_turned_away(context, notes, line, f"{name} {url}")
    for status in (301, 302, 303, 307, 308):
        line.desk.answer = _redirects(status, "https://private-6.example.com/")
        await _is_turned_away(context, notes, line, f"a redirect with {status}")


async def _is_turned_away(context: Context, notes: Notes, line: Any, sent: str) -> None:
    before = len(context.tls_proxy.private_addresses())
    came = await ring(context.engine, to=line.number, account=line.twilio)
    touched = context.tls_proxy.private_addresses()[before:]
    case = "A response that leads to a private address is refused."
    verbs = set(read(came).verbs)
    notes.expect(case, not verbs & {"Stream", "Play"} and not touched, sent=sent, came=came)


def _redirects(status: int, url: str) -> Any:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": url})

    return handler
