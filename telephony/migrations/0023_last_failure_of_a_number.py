from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Calls go on while the index is built. It holds only calls with an error."""

    atomic = False

    dependencies = [
        ('telephony', '0022_names_of_numbers'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='call',
            index=models.Index(models.F('account'), models.Case(models.When(direction='inbound', then=models.F('called_number')), default=models.F('caller_phone')), models.OrderBy(models.F('created_at'), descending=True), condition=models.Q(('error_code', ''), _negated=True), name='call_failed_by_number'),
        ),
    ]
