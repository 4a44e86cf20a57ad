import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

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
        WHERE call.ended_at IS NOT NULL AND call.created_at > now() - interval '32 days'
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
"""


class Migration(migrations.Migration):
    """Count the calls of the last days.

    What the previous version ends between this migration and its replacement is not counted:
    these are statistics, and bills do not depend on them.
    """

    dependencies = [
        ('accounts', '0012_time_zone'),
        ('telephony', '0023_last_failure_of_a_number'),
    ]

    operations = [
        migrations.CreateModel(
            name='CallDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(help_text="The day in the account's time zone on which they began.")),
                ('completed', models.IntegerField(default=0)),
                ('unanswered', models.IntegerField(default=0)),
                ('rejected', models.IntegerField(default=0)),
                ('failed', models.IntegerField(default=0)),
                ('on_call_start', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), help_text='Latencies of onCallStart.', size=None)),
                ('turns', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), help_text="Latencies of the agent's turns.", size=None)),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('account', 'day'), name='call_day_of_account')],
            },
        ),
        migrations.RunSQL(_COUNT, migrations.RunSQL.noop),
    ]
