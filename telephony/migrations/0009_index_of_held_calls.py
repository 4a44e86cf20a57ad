from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Calls go on while the index is built, however many there are."""

    atomic = False

    dependencies = [
        ('telephony', '0008_bound_numbers_and_held_calls'),
    ]

    operations = [
        RemoveIndexConcurrently(
            model_name='call',
            name='call_live_by_age',
        ),
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['last_seen_at', 'held_until'], name='call_live_by_age'),
        ),
    ]
