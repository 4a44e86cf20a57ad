"""Configuration: weak settings must stop every process, and no process listens publicly."""

from __future__ import annotations

import asyncio
import random
import string
from pathlib import Path

from devtools.attack.context import Context
from devtools.attack.product import ENGINE, MEDIA, SECOND_ENGINE, SECOND_MEDIA, WEB
from devtools.attack.report import Notes

NEEDS_NETWORK = False

_AT_ONCE = 2
_LISTENING = "0A"


def _strong(seed: int) -> str:
    source = random.Random(seed)  # noqa: S311 (so that it can be repeated)
    return "".join(source.choice(string.ascii_letters + string.digits) for _ in range(64))


WEAK_KEYS = (
    "",
    "a",
    "changeme",
    "secret",
    "django-insecure-#k3v!x8)q2m$z7p@w9(r5t&y4u*i1o0e6n_b+d=f-gh",
    f"django-insecure-{_strong(1)}",
    "a" * 64,
    "ab" * 32,
    "password" * 8,
    "changeme" * 8,
    _strong(2)[:20],
    _strong(3)[:49],
    " " * 64,
    "0123456789" * 6,
)
# Each must be refused, with everything else correct.
WEAK: tuple[dict[str, str], ...] = (
    *({"SECRET_KEY": key} for key in WEAK_KEYS),
    *({"SECRET_KEY_FALLBACKS": key} for key in WEAK_KEYS[1:]),
    {"SECRET_KEY_FALLBACKS": f"{_strong(4)},changeme"},
    *({"ALLOWED_HOSTS": hosts} for hosts in ("*", "app.example.com,*", " * ")),
    {"TWILIO_API_URL": "http://twilio.example.com"},
    {"TWILIO_API_URL": "ftp://twilio.example.com"},
    {"TWILIO_API_URL": "twilio.example.com"},
    {"TWILIO_API_URL": "https://"},
    {"OPENAI_REALTIME_URL": "ws://openai.example.com/openai/v1/realtime"},
    {"OPENAI_REALTIME_URL": "http://openai.example.com"},
    {"OPENAI_REALTIME_URL": "openai.example.com"},
    {"OPENAI_HOSTS": "*"},
    *({"PUBLIC_URL": url} for url in ("http://app.example.com", "app.example.com", "https://", "")),
    *({"ENGINE_URL": url} for url in ("http://engine.example.com", "")),
    *({"MEDIA_URL": url} for url in ("ws://media.example.com/media", "https://x.example.com", "")),
    {"SANDBOX": "1"},
    {"CALLBACK_ALLOW_PRIVATE": "1"},
    *({"STRIPE_SECRET_KEY": key} for key in ("", "sk_test_", "changeme", "pk_live_" + "a" * 24)),
    {"PORT": "0"},
    {"PORT": "many"},
    {"MAX_CONCURRENT_CALLS": "-1"},
)


async def attack(context: Context, notes: Notes) -> None:
    _listens_to_nobody_else(notes)
    gate = asyncio.Semaphore(_AT_ONCE)
    weak = WEAK[::24] if context.is_short else WEAK
    await asyncio.gather(
        *(_start(context, notes, gate, changes, is_weak=True) for changes in weak),
        _start(context, notes, gate, {}, is_weak=False),
        _start(context, notes, gate, {"SECRET_KEY_FALLBACKS": _strong(5)}, is_weak=False),
    )


async def _start(
    context: Context,
    notes: Notes,
    gate: asyncio.Semaphore,
    changes: dict[str, str],
    *,
    is_weak: bool,
) -> None:
    """Check whether gunicorn would start with these settings."""
    async with gate:
        checked = await context.product.run(
            *("-m", "gunicorn", "--check-config", "--config=config/gunicorn.conf.py"),
            **{"PROCESS": "web", **changes},
        )
    if not is_weak:
        notes.expect(
            "Good settings allow a start.", checked.returncode == 0, came=checked.stderr[-200:]
        )
        return
    last = (checked.stderr.strip().splitlines() or [""])[-1]
    notes.expect(
        "Weak settings prevent a start.", checked.returncode != 0, sent=changes, came="it starts"
    )
    if checked.returncode:
        names = next(iter(changes)).removesuffix("_FALLBACKS")
        notes.expect("One sentence names the setting.", names in last, sent=changes, came=last)
        value = next(iter(changes.values()))
        is_quoted = "SECRET" in next(iter(changes)) and len(value) > 8 and value in checked.stderr
        notes.expect("No secret is quoted.", not is_quoted, sent=changes, came=last)


def _listens_to_nobody_else(notes: Notes) -> None:
    """No process listens beyond this machine, unless configured to."""
    ours = {WEB, ENGINE, MEDIA, SECOND_ENGINE, SECOND_MEDIA}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            address, _, port = local.partition(":")
            if state == _LISTENING and int(port, 16) in ours:
                is_loopback = address in ("0100007F", "00000000000000000000000001000000")
                notes.expect(
                    "A process listens on loopback by default.",
                    is_loopback,
                    sent=f"port {int(port, 16)}",
                    came=f"{address} in {table}",
                )
