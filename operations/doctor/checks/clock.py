"""The check of the clock: against the database's, and against those of public servers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime

import psycopg
from django.conf import settings

from operations.doctor.checks.database import connected
from operations.doctor.findings import Check, Finding, Options, failed, ok, skipped
from operations.doctor.network import Unreachable, as_http, request

# Codes of authenticator apps change every 30 seconds.
MOST_OFF_S = 15.0
CLOCK_REMEDY = (
    "Let every machine keep its time: install chrony or systemd-timesyncd, and check with "
    "timedatectl. Sign-ins with codes, signatures of webhooks and Stripe's events depend on it."
)


def _clock(subject: str, options: Options) -> Iterable[Finding]:
    offsets = dict(_offsets())
    if not offsets:
        yield skipped("Neither the database nor a server told the time.")
        return
    off = {name: offset for name, offset in offsets.items() if abs(offset) > MOST_OFF_S}
    for name, offset in off.items():
        # One that disagrees with all others is wrong itself.
        is_alone = len(off) == 1 and len(offsets) > 2
        yield failed(
            f"This machine's clock is {abs(offset):.0f} seconds "
            f"{'ahead of' if offset > 0 else 'behind'} that of {name}"
            + (", and agrees with all others." if is_alone else "."),
            f"Correct the clock of {name}." if is_alone else CLOCK_REMEDY,
        )
    if not off:
        yield ok(f"It agrees with {', '.join(offsets)}.")


def _offsets() -> Iterable[tuple[str, float]]:
    """Return whose clock was read, and how many seconds ours is ahead of it."""
    if settings.ENVIRONMENT.is_good("DATABASE_URL"):
        with suppress(psycopg.Error), closing(connected()) as connection:
            began = time.time()
            [row] = connection.execute(
                "SELECT extract(epoch FROM clock_timestamp())::float8"
            ).fetchall()
            yield "the database", (began + time.time()) / 2 - row[0]
    for name in ("PUBLIC_URL", "TWILIO_API_URL", "OPENAI_REALTIME_URL"):
        if not settings.ENVIRONMENT.is_good(name):
            continue
        url = as_http(getattr(settings, name))
        with suppress(Unreachable, ssl.SSLError, TypeError, ValueError):
            began = time.time()
            date = request(url, "HEAD").headers.get("date", "")
            ahead = (began + time.time()) / 2 - parsedate_to_datetime(date).timestamp()
            # The header has whole seconds.
            yield url.split("/")[2], ahead - 0.5


CLOCK = Check(
    "clock",
    "Clock",
    "This machine's clock, against the database's and against the `Date` of HTTPS responses.",
    _clock,
)
