from django.db import migrations, models


class Migration(migrations.Migration):
    """The table keeps its name: engines of the previous release go on writing it."""

    dependencies = [("telephony", "0030_leaner_indexes")]

    operations = [
        migrations.AlterModelTable(name="engine", table="telephony_engine"),
        migrations.RenameModel(old_name="Engine", new_name="Process"),
        migrations.AlterModelOptions(name="process", options={"verbose_name_plural": "processes"}),
        migrations.AddField(
            model_name="process",
            name="kind",
            field=models.CharField(
                choices=[("engine", "Engine"), ("worker", "Worker"), ("web", "Web")],
                db_default="engine",
                max_length=6,
            ),
        ),
        migrations.AddField(
            model_name="process",
            name="host",
            field=models.CharField(blank=True, db_default="", max_length=253),
        ),
        migrations.AddField(
            model_name="process",
            name="pid",
            field=models.PositiveBigIntegerField(db_default=0, verbose_name="PID"),
        ),
        migrations.AddField(
            model_name="process",
            name="version",
            field=models.CharField(blank=True, db_default="", max_length=40),
        ),
        migrations.AddField(
            model_name="process",
            name="queues",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="The queues that a worker serves.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="process",
            name="calls",
            field=models.PositiveIntegerField(
                db_default=0, help_text="The calls that an engine held at its last heartbeat."
            ),
        ),
        migrations.AddField(
            model_name="process",
            name="draining_since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="process",
            name="lost_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When an engine was taken for dead, and lost its calls.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="process",
            name="is_draining",
            field=models.BooleanField(
                default=False, help_text="It finishes its calls or jobs and exits."
            ),
        ),
    ]
