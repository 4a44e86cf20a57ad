"""``manage.py after_restore``: prepare a restored database for the start of the processes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.health import MigrationsMissing, require_migrations
from operations.restoring import opens_secrets, prepare, running_processes

_WRONG_KEY = (
    "SECRET_KEY does not open what this database has encrypted. Set the key that was in use at the "
    "time of the backup, or add it to SECRET_KEY_FALLBACKS. If it is lost, add --key-is-lost: see "
    "the guide, docs/backup.md."
)


class Command(BaseCommand):
    help = (
        "Prepare a restored database, before any process starts: end the calls that were in "
        "progress, drop the emails that waited, have Stripe asked before minutes are sent again, "
        "and check every account with Stripe. Running it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--old-backup",
            action="store_true",
            help="the backup is older than the failure: send no callbacks about the calls that "
            "were in progress at that time",
        )
        parser.add_argument(
            "--key-is-lost",
            action="store_true",
            help="SECRET_KEY does not open what is encrypted: replace the webhook secrets",
        )

    def handle(self, *args: Any, old_backup: bool, key_is_lost: bool, **options: Any) -> None:
        try:
            require_migrations()
        except MigrationsMissing:
            raise CommandError("Migrations are missing: run manage.py migrate first.") from None
        if running := running_processes():
            names = ", ".join(f"{each.kind} {each.pid} on {each.host}" for each in running)
            raise CommandError(f"Stop every process that uses this database first: {names}.")
        if not key_is_lost and not opens_secrets():
            raise CommandError(_WRONG_KEY)
        done = prepare(is_old=old_backup, key_is_lost=key_is_lost)
        self.stdout.write(
            f"Webhook secrets replaced: {done.secrets}\n"
            f"Calls ended: {done.calls}\n"
            f"Emails dropped: {done.emails}\n"
            f"Unsent meter events, of which Stripe is asked first: {done.meter_events}\n"
            "When a worker starts, it checks every account with Stripe and compares the minutes.\n"
        )
