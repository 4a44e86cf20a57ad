"""Drop the indexes for prefixes that older releases made in every app: see ``core.database.schema``.

One after the other, and without a lock that anybody waits for. Killed in between, it goes on where
it was.
"""

from django.db import migrations
from django.db.backends.postgresql.schema import DatabaseSchemaEditor as DjangosSchemaEditor

# Whatever release of Django has named them, and those of other packages' tables too.
_FIND = """
SELECT quote_ident(indexname) FROM pg_indexes
WHERE schemaname = current_schema() AND indexname LIKE '%\\_like'
    AND (indexdef LIKE '% varchar\\_pattern\\_ops)' OR indexdef LIKE '% text\\_pattern\\_ops)')
"""
# But for partitioned ones, which are newer, and on which no index can be made concurrently.
_TABLES = """
SELECT relname FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


def drop(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_FIND)
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def make(apps, schema_editor):
    """Make them as Django does."""
    models = apps.get_models(include_auto_created=True)
    fields = [(model, field) for model in models for field in model._meta.local_concrete_fields]
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_TABLES)
        tables = {name for (name,) in cursor.fetchall()}
        for model, field in fields:
            sql = DjangosSchemaEditor._create_like_index_sql(schema_editor, model, field)
            if sql is not None and model._meta.managed and model._meta.db_table in tables:
                cursor.execute(
                    str(sql).replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY IF NOT EXISTS", 1)
                )


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY is for outside of transactions

    dependencies = [("accounts", "0009_queue_indexes")]

    operations = [migrations.RunPython(drop, make, elidable=True)]
