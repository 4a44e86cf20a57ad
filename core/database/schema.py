"""Tables without Django's indexes for prefixes.

Django gives each text column that is unique or indexed a second index, for ``LIKE 'prefix%'`` in
other collations than C. Nothing here looks for a prefix in a whole table: the few queries that
compare one have found their rows by account or by id before. Such an index of an id takes 50 MB in
a million rows, one of a Twilio SID 77 MB, and it is written with each of them.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.postgresql.schema import DatabaseSchemaEditor as DjangosSchemaEditor


class DatabaseSchemaEditor(DjangosSchemaEditor):
    def _create_like_index_sql(self, model: type[models.Model], field: Any) -> None:
        return None
