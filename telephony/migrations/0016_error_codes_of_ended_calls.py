from __future__ import annotations

from django.db import migrations

# Calls that are updated in one transaction.
BATCH = 1_000
_NEXT = """
    SELECT id FROM telephony_call WHERE id > %s AND ended_at IS NOT NULL
    ORDER BY id LIMIT %s
"""
# The timeline has the code of every error that ended a call. Where Switchhook rejected a call, it
# has the account's status.
_FILL = """
    UPDATE telephony_call AS call SET error_code = left(found.code, 80)
    FROM (
        SELECT DISTINCT ON (event.call_id) event.call_id, CASE
            WHEN event.detail->>'code' IS NOT NULL AND event.kind <> 'carrier_rejected'
                THEN event.detail->>'code'
            WHEN event.kind IN ('carrier_rejected', 'carrier_unavailable') THEN event.kind
            WHEN event.kind = 'tool_failed' THEN 'tool_failed'
            WHEN event.kind = 'tool_timeout' THEN 'tool_timeout'
            WHEN event.detail->>'why' = 'account_inactive' THEN 'payment_required'
            ELSE event.detail->>'why'
        END AS code
        FROM telephony_callevent AS event
        WHERE event.call_id = ANY(%s) AND event.kind IN (
            'not_accepted', 'error', 'refused', 'carrier_rejected', 'carrier_unavailable',
            'tool_failed', 'tool_timeout'
        )
        ORDER BY event.call_id, event.kind IN ('tool_failed', 'tool_timeout'), event.at DESC
    ) AS found
    WHERE call.id = found.call_id AND call.error_code = '' AND found.code IS NOT NULL
"""
_REST = """
    UPDATE telephony_call SET error_code = 'not_connected'
    WHERE id = ANY(%s) AND ended_reason = 'failed' AND error_code = ''
"""


def fill(apps, schema_editor):
    """Fill in the codes in batches. What is filled in is skipped, so this can be run again."""
    last = ""
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute(_NEXT, [last, BATCH])
            ids = [row[0] for row in cursor.fetchall()]
            if not ids:
                return
            cursor.execute(_FILL, [ids])
            cursor.execute(_REST, [ids])
            last = ids[-1]


class Migration(migrations.Migration):
    """Calls go on while this runs: each batch is a transaction of its own."""

    atomic = False

    dependencies = [
        ('telephony', '0015_error_code'),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
