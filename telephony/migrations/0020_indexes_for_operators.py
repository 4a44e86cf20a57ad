from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Calls go on while the indexes are built, however many there are."""

    atomic = False

    dependencies = [
        ('telephony', '0019_search_of_earlier_calls'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['caller_phone', '-id'], name='call_of_all_by_caller'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['called_number', '-id'], name='call_of_all_by_called'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['direction', '-id'], name='call_of_all_by_direction'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(models.Case(models.When(ended_reason='', then=models.Value('in-progress')), models.When(ended_reason__in=['caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup'], then=models.Value('completed')), models.When(ended_reason__in=['busy', 'no_answer', 'canceled'], then=models.Value('unanswered')), models.When(ended_reason='rejected', error_code='', then=models.Value('rejected')), default=models.Value('failed'), output_field=models.CharField()), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('ended_reason', ''), _negated=True), name='call_of_all_by_result'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('ended_reason', ''), _negated=True), fields=['ended_reason', '-id'], name='call_of_all_by_reason'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('error_code', ''), _negated=True), fields=['error_code', '-id'], name='call_of_all_by_error_code'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('state', 'pending')), fields=['due_at'], name='delivery_pending_of_all'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('state', 'delivered'), _negated=True), fields=['state', '-id'], name='delivery_undelivered_of_all'),
        ),
    ]
