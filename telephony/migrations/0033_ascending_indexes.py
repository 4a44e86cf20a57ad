import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations, models

from core.database.operations import ReplaceIndexConcurrently


class Migration(migrations.Migration):
    """Calls and callbacks go on while this runs. The earlier release uses the new indexes too."""

    atomic = False

    dependencies = [
        ('telephony', '0032_calls_of_an_engine'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['account', 'created_at', 'id'], name='call_by_account'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('direction', 'inbound')), fields=['account', 'called_number', 'created_at'], name='call_inbound_by_number'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('direction', 'outbound')), fields=['account', 'caller_phone', 'created_at'], name='call_outbound_by_number'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(direction='inbound', then=models.F('called_number')), default=models.F('caller_phone')), models.F('created_at'), condition=models.Q(('error_code', ''), _negated=True), name='call_failed_by_number'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(direction='inbound', then=models.F('called_number')), default=models.F('caller_phone')), models.F('created_at'), name='call_by_number'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(direction='inbound', then=models.F('caller_phone')), default=models.F('called_number')), models.F('created_at'), name='call_by_other_number'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(ended_reason='', then=models.Value('in-progress')), models.When(ended_reason__in=['caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup'], then=models.Value('completed')), models.When(ended_reason__in=['busy', 'no_answer', 'canceled'], then=models.Value('unanswered')), models.When(ended_reason='rejected', error_code='', then=models.Value('rejected')), default=models.Value('failed'), output_field=models.CharField()), models.F('created_at'), name='call_by_result'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('error_code', ''), _negated=True), fields=['account', 'error_code', 'created_at'], name='call_by_error_code'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['account', 'direction', 'created_at'], name='call_by_direction'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['caller_phone', 'id'], name='call_of_all_by_caller'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['called_number', 'id'], name='call_of_all_by_called'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(models.Case(models.When(ended_reason='', then=models.Value('in-progress')), models.When(ended_reason__in=['caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup'], then=models.Value('completed')), models.When(ended_reason__in=['busy', 'no_answer', 'canceled'], then=models.Value('unanswered')), models.When(ended_reason='rejected', error_code='', then=models.Value('rejected')), default=models.Value('failed'), output_field=models.CharField()), models.F('id'), condition=models.Q(('ended_reason__in', ['', 'caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup']), _negated=True), name='call_of_all_by_result'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('ended_reason__in', ['', 'caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup']), _negated=True), fields=['ended_reason', 'id'], name='call_of_all_by_reason'),
        ),
        ReplaceIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('error_code', ''), _negated=True), fields=['error_code', 'id'], name='call_of_all_by_error_code'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(fields=['account', 'created_at'], name='delivery_by_account'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(fields=['account', 'state', 'created_at'], name='delivery_by_state'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('state', 'delivered'), _negated=True), fields=['state', 'id'], name='delivery_undelivered_of_all'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('kind', 'onError')), fields=['id'], name='delivery_of_errors_of_all'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(models.F('account'), models.Case(models.When(models.Q(('attempts__gt', 0), ('held_by__isnull', False), _connector='OR'), then=models.Value('failing')), default=models.Value('waiting'), output_field=models.CharField()), models.F('created_at'), condition=models.Q(('state', 'pending')), name='delivery_pending_by_progress'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(models.F('account'), django.db.models.functions.text.Lower(models.Func(models.Func(models.F('url'), models.Value('^([^/]*//[^/?#]*).*$'), models.Value('\\1'), function='regexp_replace'), models.Value('^(https://.*?):(?:0*443)?$|^(http://.*?):(?:0*80)?$'), models.Value('\\1\\2'), function='regexp_replace', output_field=models.CharField())), models.F('created_at'), name='delivery_by_origin'),
        ),
        ReplaceIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('kind', 'onError')), fields=['account', 'created_at'], name='delivery_of_errors'),
        ),
        ReplaceIndexConcurrently(
            model_name='metadatavalue',
            index=models.Index(fields=['account', 'value', 'created_at'], name='metadata_by_value'),
        ),
        RemoveIndexConcurrently(
            model_name='call',
            name='call_of_all_by_direction',
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='callevent',
                    name='account',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    'DROP INDEX CONCURRENTLY IF EXISTS telephony_callevent_account_id_1a25be0c',
                    migrations.RunSQL.noop,
                ),
            ],
        ),
    ]
