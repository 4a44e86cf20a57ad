"""Operations of migrations, for tables that are in use."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import NotInTransactionMixin
from django.db import models
from django.db.migrations.operations.models import IndexOperation


class ReplaceIndexConcurrently(NotInTransactionMixin, IndexOperation):
    """Replaces an index by one of the same name, and the table is in use meanwhile.

    The new one is built before the old one is dropped, so that queries always have one. The
    migration is not atomic. It can be stopped anywhere and run again.
    """

    def __init__(self, model_name: str, index: models.Index) -> None:
        self.model_name = model_name
        self.index = index

    def state_forwards(self, app_label: str, state: Any) -> None:
        state.remove_index(app_label, self.model_name_lower, self.index.name)
        state.add_index(app_label, self.model_name_lower, self.index)

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        self._ensure_not_in_transaction(schema_editor)
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        name = self.index.name
        known = to_state.models[app_label, self.model_name_lower].get_index_by_name(name)
        new = known.clone()
        new.name = f"{name}_new"
        quote = schema_editor.quote_name
        schema_editor.add_index(model, new, concurrently=True)
        schema_editor.remove_index(model, known, concurrently=True)
        schema_editor.execute(f"ALTER INDEX {quote(new.name)} RENAME TO {quote(name)}")

    database_backwards = database_forwards

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [], {"model_name": self.model_name, "index": self.index}

    def describe(self) -> str:
        return f"Concurrently replace index {self.index.name} of model {self.model_name}"
