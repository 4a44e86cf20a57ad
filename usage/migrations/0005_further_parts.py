from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Calls end on while the index is built, however many records there are."""

    atomic = False

    dependencies = [("usage", "0004_parts_of_a_call")]

    operations = [
        AddIndexConcurrently(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("part__gt", 1)),
                fields=["account"],
                name="usage_further_part",
            ),
        ),
    ]
