import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("telephony", "0039_sealed_conversations"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="CachedGreeting",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "digest",
                    models.CharField(
                        help_text="A keyed hash of the text and of what it is spoken with.",
                        max_length=64,
                    ),
                ),
                ("sealed", models.BinaryField()),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "digest"), name="cached_greeting_of_account"
                    )
                ],
            },
        ),
        migrations.RunSQL(
            "ALTER TABLE telephony_cachedgreeting SET UNLOGGED",
            "ALTER TABLE telephony_cachedgreeting SET LOGGED",
        ),
    ]
