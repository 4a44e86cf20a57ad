from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """Calls go on while the index is built, however many callbacks there are."""

    atomic = False

    dependencies = [("telephony", "0010_sweeps")]

    operations = [
        migrations.CreateModel(
            name="Engine",
            fields=[
                (
                    "id",
                    models.CharField(
                        editable=False, max_length=25, primary_key=True, serialize=False
                    ),
                ),
                ("started_at", models.DateTimeField(db_default=Now())),
                ("last_seen_at", models.DateTimeField(db_default=Now())),
                (
                    "is_draining",
                    models.BooleanField(default=False, help_text="It is about to stop."),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Watch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("since", models.DateTimeField()),
                ("looked_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="call",
            name="engine_id",
            field=models.CharField(
                blank=True,
                db_default="",
                editable=False,
                help_text="The engine that holds its audio, or held it last.",
                max_length=25,
            ),
        ),
        migrations.AddField(
            model_name="call",
            name="lost_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="When it was last ended because its engine was not heard of any more.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="call",
            name="last_seen_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the engine that holds the call last said so; at first, when it was "
                "let in.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="callbackdelivery",
            name="is_superseded",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="It tells of an end that turned out to be none: another one tells of "
                "the end.",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "CREATE UNIQUE INDEX CONCURRENTLY one_end_per_call "
                    "ON telephony_callbackdelivery (call_id) "
                    "WHERE NOT is_superseded AND kind = 'onCallEnd'",
                    "DROP INDEX one_end_per_call",
                ),
            ],
            state_operations=[
                migrations.AddConstraint(
                    model_name="callbackdelivery",
                    constraint=models.UniqueConstraint(
                        fields=["call"],
                        condition=models.Q(kind="onCallEnd", is_superseded=False),
                        name="one_end_per_call",
                    ),
                )
            ],
        ),
        migrations.RemoveConstraint(model_name="callbackdelivery", name="one_call_end_per_call"),
    ]
