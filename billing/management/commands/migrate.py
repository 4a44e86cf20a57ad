"""``manage.py migrate``: Django's, plus tables of apps without migrations."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate
from django.db import connections


class Command(migrate.Command):
    """Migrates, then creates the tables of apps whose migrations are disabled in the settings.

    Django would create those first (``--run-syncdb``), but dj-stripe's refer to accounts.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options | {"run_syncdb": False})
        left_out = {app for app, module in settings.MIGRATION_MODULES.items() if module is None}
        only_a_part = options["app_label"] or options["plan"] or options["check_unapplied"]
        if left_out and not only_a_part:
            self.sync_apps(connections[options["database"]], left_out)
