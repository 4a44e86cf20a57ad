import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """A partitioned table without partitions: see ``core.database.partitions``."""

    dependencies = [
        ('telephony', '0033_ascending_indexes'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name='Timeline',
                    fields=[
                        ('call', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='packed_timeline', serialize=False, to='telephony.call')),
                        ('packed', models.BinaryField()),
                        ('account', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                    ],
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    """
                    CREATE TABLE telephony_timeline (
                        call_id varchar(25) NOT NULL PRIMARY KEY,
                        account_id varchar(25) NOT NULL,
                        packed bytea NOT NULL
                    ) PARTITION BY RANGE (call_id)
                    """,
                    "DROP TABLE telephony_timeline",
                ),
            ],
        ),
    ]
