"""Tables without Django's prefix indexes.

For each text column that is unique or indexed, Django creates a second index that serves
``LIKE 'prefix%'`` in collations other than C. No query here searches a whole table by prefix: the
few that compare prefixes narrow their rows by account or ID first. For a million rows, such an
index takes 50 MB for an ID and 77 MB for a Twilio SID, and every inserted row updates it.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.postgresql.schema import DatabaseSchemaEditor as DjangosSchemaEditor


class DatabaseSchemaEditor(DjangosSchemaEditor):
    def _create_like_index_sql(self, model: type[models.Model], field: Any) -> None:
        return None
