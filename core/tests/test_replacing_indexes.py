"""Replacing an index that is in use, also after a stop halfway."""

from __future__ import annotations

import pytest
from django.db import connection, models
from django.db.migrations.loader import MigrationLoader

from core.database.operations import ReplaceIndexConcurrently

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "usage_record_by_account"
OPERATION = ReplaceIndexConcurrently("UsageRecord", models.Index(fields=["account"], name=NAME))
BUILT = f"CREATE INDEX CONCURRENTLY {NAME}_new ON usage_usagerecord (account_id)"


def definitions() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, split_part(indexdef, 'btree ', 2) FROM pg_indexes "
            "WHERE indexname LIKE %s",
            [f"{NAME}%"],
        )
        return dict(cursor.fetchall())


@pytest.mark.parametrize(
    "done_before",
    [
        [],
        [BUILT],
        [BUILT, f"DROP INDEX CONCURRENTLY {NAME}"],
        [BUILT, f"DROP INDEX CONCURRENTLY {NAME}", f"ALTER INDEX {NAME}_new RENAME TO {NAME}"],
    ],
)
def test_it_works_wherever_it_was_stopped_before(done_before: list[str]) -> None:
    before = MigrationLoader(connection).project_state()
    after = before.clone()
    OPERATION.state_forwards("usage", after)
    known = definitions()
    with connection.cursor() as cursor:
        for statement in done_before:
            cursor.execute(statement)
    with connection.schema_editor(atomic=False) as editor:
        OPERATION.database_forwards("usage", editor, before, after)
    assert definitions() == {NAME: "(account_id)"}
    with connection.schema_editor(atomic=False) as editor:
        OPERATION.database_backwards("usage", editor, after, before)
    assert definitions() == known
