import django.db.models.deletion
from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models

# Indexes of foreign keys. In each table, another index begins with the same column.
_OF_KEYS = (
    'telephony_call_account_id_563a29a1',
    'telephony_callbackdelivery_account_id_de7bf34f',
    'telephony_callbackdelivery_call_id_ca15ba09',
    'telephony_callevent_call_id_87b9ca06',
)


class Migration(migrations.Migration):
    """Calls and callbacks go on while this runs."""

    atomic = False

    dependencies = [
        ('telephony', '0029_days_of_earlier_calls'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(models.F('account'), models.Case(models.When(models.Q(('attempts__gt', 0), ('held_by__isnull', False), _connector='OR'), then=models.Value('failing')), default=models.Value('waiting'), output_field=models.CharField()), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('state', 'pending')), name='delivery_pending_by_progress'),
        ),
        RemoveIndexConcurrently(
            model_name='callbackdelivery',
            name='delivery_by_progress',
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('kind', 'onError')), fields=['-id'], name='delivery_of_errors_of_all'),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='call',
                    name='account',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='calls', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='callbackdelivery',
                    name='account',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='callbackdelivery',
                    name='call',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='callbacks', to='telephony.call'),
                ),
                migrations.AlterField(
                    model_name='callevent',
                    name='call',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='events', to='telephony.call'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    f'DROP INDEX CONCURRENTLY IF EXISTS {name}', migrations.RunSQL.noop
                )
                for name in _OF_KEYS
            ],
        ),
    ]
