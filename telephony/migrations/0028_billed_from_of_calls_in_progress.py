from django.db import migrations
from django.db.models import Min, OuterRef, Subquery


def bill_live_calls(apps, schema_editor):
    """Let a call in progress be billed from when its timeline says that the model was ready.

    Its engine runs the previous version, which does not write the column. That engine still ends
    the call, and charges as before. If the engine dies, the sweep ends the call, and would charge
    nothing without this. There are few calls in progress, and an index of them.
    """
    call = apps.get_model("telephony", "Call")
    events = apps.get_model("telephony", "CallEvent").objects
    ready = events.filter(call=OuterRef("pk"), kind="model_ready").order_by().values("call")
    since = Subquery(ready.annotate(at=Min("at")).values("at"))
    call.objects.filter(ended_at=None, answered_at__isnull=False).update(billed_from=since)


class Migration(migrations.Migration):
    """Not in the migration that adds the column, which locks the table until its end."""

    dependencies = [
        ('telephony', '0027_billed_from'),
    ]

    operations = [
        migrations.RunPython(bill_live_calls, migrations.RunPython.noop, elidable=True),
    ]
