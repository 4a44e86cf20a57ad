from django.db import migrations, models

CONSTRAINT = models.UniqueConstraint(fields=["call_sid", "part"], name="usage_record_of_call")


class Migration(migrations.Migration):
    """Calls end on while the index is built, however many records there are."""

    atomic = False

    dependencies = [("usage", "0003_spending_limit")]

    operations = [
        migrations.AddField(
            model_name="usagerecord",
            name="part",
            field=models.PositiveSmallIntegerField(db_default=1, default=1),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "CREATE UNIQUE INDEX CONCURRENTLY usage_record_of_call "
                    "ON usage_usagerecord (call_sid, part)",
                    "DROP INDEX IF EXISTS usage_record_of_call",
                ),
                migrations.RunSQL(
                    "ALTER TABLE usage_usagerecord ADD CONSTRAINT usage_record_of_call "
                    "UNIQUE USING INDEX usage_record_of_call",
                    "ALTER TABLE usage_usagerecord DROP CONSTRAINT usage_record_of_call",
                ),
            ],
            state_operations=[
                migrations.AddConstraint(model_name="usagerecord", constraint=CONSTRAINT)
            ],
        ),
        migrations.AlterField(
            model_name="usagerecord", name="call_sid", field=models.CharField(max_length=34)
        ),
    ]
