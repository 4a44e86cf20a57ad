from django.db import migrations, models

from core.database.operations import ReplaceIndexConcurrently


class Migration(migrations.Migration):
    """Calls go on while this runs."""

    atomic = False

    dependencies = [
        ('usage', '0008_leaner_indexes'),
    ]

    operations = [
        ReplaceIndexConcurrently(
            model_name='usagerecord',
            index=models.Index(fields=['account', 'created_at', 'id'], name='usage_record_by_account'),
        ),
    ]
