from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Calls go on while the indexes are built, however many there are."""

    atomic = False

    dependencies = [
        ('telephony', '0016_error_codes_of_ended_calls'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(ended_reason='', then=models.Value('in-progress')), models.When(ended_reason__in=['caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup'], then=models.Value('completed')), models.When(ended_reason__in=['busy', 'no_answer', 'canceled'], then=models.Value('unanswered')), models.When(ended_reason='rejected', error_code='', then=models.Value('rejected')), default=models.Value('failed'), output_field=models.CharField()), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), name='call_by_result'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('error_code', ''), _negated=True), fields=['account', 'error_code', '-created_at', '-id'], name='call_by_error_code'),
        ),
        RemoveIndexConcurrently(
            model_name='call',
            name='call_by_outcome',
        ),
    ]
