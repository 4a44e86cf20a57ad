from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """Calls go on meanwhile. Sweeps find the calls in progress with another index."""

    atomic = False

    dependencies = [("telephony", "0034_timelines")]

    operations = [RemoveIndexConcurrently(model_name="call", name="call_live_by_age")]
