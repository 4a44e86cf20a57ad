from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("telephony", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE telephony_sealedplan SET UNLOGGED",
            "ALTER TABLE telephony_sealedplan SET LOGGED",
        )
    ]
