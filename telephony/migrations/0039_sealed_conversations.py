import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("telephony", "0038_latencies_of_numbers")]

    operations = [
        migrations.CreateModel(
            name="SealedConversation",
            fields=[
                (
                    "call",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="telephony.call",
                    ),
                ),
                ("ciphertext", models.BinaryField()),
            ],
        ),
        migrations.RunSQL(
            "ALTER TABLE telephony_sealedconversation SET UNLOGGED",
            "ALTER TABLE telephony_sealedconversation SET LOGGED",
        ),
    ]
