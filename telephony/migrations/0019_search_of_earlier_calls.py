from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

# Calls that are indexed in one transaction.
BATCH = 1_000
_NEXT = """
    SELECT id FROM telephony_call WHERE id > %s AND metadata IS NOT NULL ORDER BY id LIMIT %s
"""
_FILL = """
    INSERT INTO telephony_metadatavalue (account_id, call_id, created_at, value)
    SELECT call.account_id, call.id, call.created_at, found.value
    FROM telephony_call AS call, LATERAL (
        SELECT each #>> '{}' AS value
        FROM jsonb_path_query(
            call.metadata, 'strict $.** ? (@.type() == "string" || @.type() == "number")'
        ) AS each
        WHERE length(each #>> '{}') BETWEEN 1 AND 200
        LIMIT 20
    ) AS found
    WHERE call.id = ANY(%s)
    ON CONFLICT DO NOTHING
"""


def fill(apps, schema_editor):
    """Index the metadata of earlier calls in batches. This can be run again."""
    last = ""
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute(_NEXT, [last, BATCH])
            ids = [row[0] for row in cursor.fetchall()]
            if not ids:
                return
            cursor.execute(_FILL, [ids])
            last = ids[-1]


class Migration(migrations.Migration):
    """Calls go on while this runs: each batch is a transaction of its own."""

    atomic = False

    dependencies = [
        ('telephony', '0018_metadata_values'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(direction='inbound', then=models.F('caller_phone')), default=models.F('called_number')), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), name='call_by_other_number'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
