"""The absence of Django's prefix indexes."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

without = import_module("accounts.migrations.0010_no_like_indexes")


def prefix_indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%\\_pattern\\_ops%'")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db
def test_no_table_has_a_prefix_index() -> None:
    assert prefix_indexes() == set()


@pytest.mark.django_db(transaction=True)
def test_the_migration_drops_prefix_indexes_and_can_be_reversed() -> None:
    editor = connection.schema_editor(atomic=False)
    try:
        without.make(apps, editor)
        made = prefix_indexes()
        assert any(name.startswith("telephony_call_call_sid_") for name in made)
        assert any(name.startswith("accounts_apikey_digest_") for name in made)
        without.make(apps, editor)  # as after a run that was killed
        assert prefix_indexes() == made
    finally:
        without.drop(apps, editor)
    assert prefix_indexes() == set()
    without.drop(apps, editor)
