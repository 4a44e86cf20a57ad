"""``manage.py migrate``: Django's, for a development database too."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate
from django.db import connections


class Command(migrate.Command):
    """Migrates, then makes the tables of apps whose migrations the settings leave out.

    Django would make those first (``--run-syncdb``), but dj-stripe's refer to accounts.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options | {"run_syncdb": False})
        left_out = {app for app, module in settings.MIGRATION_MODULES.items() if module is None}
        only_a_part = options["app_label"] or options["plan"] or options["check_unapplied"]
        if left_out and not only_a_part:
            self.sync_apps(connections[options["database"]], left_out)
