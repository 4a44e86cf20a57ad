"""``manage.py fill_calls``: a year of calls for an account, to see how pages cope with them."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from accounts.models import Account
from sandbox.filling import EACH_IN_FULL, AlreadyCalled, fill


class Command(BaseCommand):
    help = "Fill an account without calls with ended ones, over the year until now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", required=True, metavar="EMAIL")
        parser.add_argument("--calls", type=int, default=1_000_000, help="how many (1000000)")
        parser.add_argument("--seed", type=int, default=1, help="the same one, the same calls (1)")
        parser.add_argument(
            "--in-full",
            type=int,
            default=EACH_IN_FULL,
            metavar="N",
            help=f"one call in N has a timeline and callbacks ({EACH_IN_FULL})",
        )

    def handle(
        self, *_args: Any, account: str, calls: int, seed: int, in_full: int, **_options: Any
    ) -> None:
        if not settings.DEBUG:
            raise CommandError("This makes calls up: it is for development, with DEBUG=1, alone.")
        if calls < 1 or in_full < 1:
            raise CommandError("--calls and --in-full must be 1 or more.")
        found = Account.objects.with_email(account).first()
        if found is None:
            raise CommandError(f"There is no account {account}: register it first.")
        started = time.monotonic()
        try:
            fill(found, calls=calls, seed=seed, in_full=in_full)
        except AlreadyCalled:
            raise CommandError(f"{found} has calls already: fill a new account.") from None
        vacuum()
        took = time.monotonic() - started
        self.stdout.write(f"{found} has {calls:,} calls; that took {took:.0f} s.")


def vacuum() -> None:
    """Run now what autovacuum runs within minutes, for statistics and the visibility map."""
    with connection.cursor() as cursor:
        cursor.execute(
            "VACUUM (ANALYZE) telephony_call, telephony_callevent, telephony_timeline, "
            "telephony_callbackdelivery, telephony_callbackattempt, telephony_metadatavalue, "
            "usage_usagerecord, usage_dailyusage, billing_meterevent"
        )
