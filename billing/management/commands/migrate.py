"""``manage.py migrate``: Django's, for a database that is in use."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections

from core.database.migrating import alone, is_about_locks, long_transactions, patiently

_WAIT_S = 600


class Command(migrate.Command):
    """Migrates, then creates the tables of apps whose migrations are disabled in the settings.

    Django would create those first (``--run-syncdb``), but dj-stripe's refer to accounts.

    Any number of these can run at once: one migrates, and the others wait for it. None makes the
    queries of a running product wait long (``core.database.schema``).
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--wait",
            type=float,
            default=_WAIT_S,
            metavar="SECONDS",
            help=f"how long to try again while something else locks a table ({_WAIT_S})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        with alone(connections[options["database"]], waiting=self._say_that_another_runs):
            self._migrate_patiently(*args, **options)

    def _migrate_patiently(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]

        def again(pause: float) -> None:
            self.stderr.write(f"{_locked(connection)} Trying again in {pause:g} s.")

        try:
            patiently(lambda: self._migrate(*args, **options), seconds=options["wait"], again=again)
        except OperationalError as error:
            if not is_about_locks(error):
                raise
            raise CommandError(
                f"{_locked(connection)} Gave up after {options['wait']:g} s. The migrations before "
                "this one are done. End what locks the table (SELECT pg_terminate_backend(…)), and "
                "run migrate again."
            ) from error

    def _migrate(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options | {"run_syncdb": False})
        left_out = {app for app, module in settings.MIGRATION_MODULES.items() if module is None}
        if left_out and not options["app_label"]:
            self.sync_apps(connections[options["database"]], left_out)

    def _say_that_another_runs(self) -> None:
        self.stderr.write("Another process migrates this database. Waiting for it.")


def _locked(connection: Any) -> str:
    if suspects := long_transactions(connection):
        return f"Another transaction has locked a table. Candidates: {'; '.join(suspects)}."
    return "Another transaction had locked a table, and has ended since."
