from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Calls go on while an index is built, however many there are."""

    atomic = False

    dependencies = [
        ('telephony', '0005_callback_attempts'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(direction='inbound', then=models.F('called_number')), default=models.F('caller_phone')), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), name='call_by_number'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(ended_reason='', then=models.Value('in-progress')), models.When(ended_reason__in=['caller_hangup', 'agent_hangup', 'transferred', 'inactivity', 'max_duration', 'api_hangup'], then=models.Value('completed')), models.When(ended_reason__in=['busy', 'no_answer', 'canceled'], then=models.Value('unanswered')), models.When(ended_reason='rejected', then=models.Value('rejected')), default=models.Value('failed'), output_field=models.CharField()), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), name='call_by_outcome'),
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(fields=['account', 'direction', '-created_at', '-id'], name='call_by_direction'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(fields=['account', '-created_at', '-id'], name='delivery_by_account'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(fields=['account', 'state', '-created_at', '-id'], name='delivery_by_state'),
        ),
    ]
