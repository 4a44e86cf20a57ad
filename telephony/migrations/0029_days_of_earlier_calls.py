from __future__ import annotations

from django.db import migrations

# The overview shows at most 31 days. The last bucket has what is beyond it.
_COUNT = """
    INSERT INTO telephony_callday (
        account_id, day, completed, unanswered, rejected, failed, on_call_start, turns
    )
    WITH ended AS (
        SELECT call.id, call.account_id,
            (call.created_at AT TIME ZONE account.time_zone)::date AS day,
            CASE
                WHEN call.ended_reason = 'rejected' AND call.error_code = '' THEN 'rejected'
                WHEN call.ended_reason IN ('busy', 'no_answer', 'canceled') THEN 'unanswered'
                WHEN call.ended_reason IN (
                    'caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration',
                    'api_hangup'
                ) THEN 'completed'
                ELSE 'failed'
            END AS outcome
        FROM telephony_call AS call JOIN accounts_account AS account ON account.id = call.account_id
        WHERE call.account_id = %s AND call.ended_at IS NOT NULL
            AND call.created_at > now() - interval '32 days'
    ),
    measured AS (
        SELECT ended.account_id, ended.day, name.value AS name,
            least(51, greatest(0, floor(4 * log(2, greatest(10, (event.detail->>name.value)::numeric)
                / 10)))) AS bucket
        FROM ended JOIN telephony_callevent AS event ON event.call_id = ended.id,
            LATERAL (VALUES ('onCallStartMs'), ('latencyMs')) AS name(value)
        WHERE event.kind IN ('accepted', 'declined', 'not_accepted', 'agent_spoke')
            AND jsonb_typeof(event.detail->name.value) = 'number'
    ),
    counted AS (
        SELECT account_id, day, name, bucket, count(*)::integer AS count
        FROM measured GROUP BY account_id, day, name, bucket
    )
    SELECT ended.account_id, ended.day,
        count(*) FILTER (WHERE outcome = 'completed'),
        count(*) FILTER (WHERE outcome = 'unanswered'),
        count(*) FILTER (WHERE outcome = 'rejected'),
        count(*) FILTER (WHERE outcome = 'failed'),
        ARRAY(
            SELECT coalesce(max(counted.count), 0) FROM generate_series(0, 51) AS place
            LEFT JOIN counted ON counted.account_id = ended.account_id AND counted.day = ended.day
                AND counted.name = 'onCallStartMs' AND counted.bucket = place
            GROUP BY place ORDER BY place
        ),
        ARRAY(
            SELECT coalesce(max(counted.count), 0) FROM generate_series(0, 51) AS place
            LEFT JOIN counted ON counted.account_id = ended.account_id AND counted.day = ended.day
                AND counted.name = 'latencyMs' AND counted.bucket = place
            GROUP BY place ORDER BY place
        )
    FROM ended GROUP BY ended.account_id, ended.day
    ON CONFLICT DO NOTHING
"""


def fill(apps, schema_editor):
    """Count the calls of each account in a statement of its own. This can be run again."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT id FROM accounts_account ORDER BY id")
        for (account_id,) in cursor.fetchall():
            cursor.execute(_COUNT, [account_id])


class Migration(migrations.Migration):
    """Count the calls of the last days. Calls go on while this runs.

    What the previous version ends between this migration and its replacement is not counted:
    these are statistics, and bills do not depend on them.
    """

    atomic = False

    dependencies = [
        ('telephony', '0028_billed_from_of_calls_in_progress'),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
