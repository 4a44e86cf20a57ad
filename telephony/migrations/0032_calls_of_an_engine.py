from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Left


class Migration(migrations.Migration):
    """Calls go on while the index is built."""

    atomic = False

    dependencies = [("telephony", "0031_processes")]

    operations = [
        AddIndexConcurrently(
            model_name="call",
            index=models.Index(
                models.F("engine_id"),
                Left("id", 5),
                condition=~models.Q(engine_id=""),
                name="call_of_engine",
            ),
        ),
    ]
