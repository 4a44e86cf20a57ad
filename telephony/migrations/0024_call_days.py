import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('accounts', '0012_time_zone'),
        ('telephony', '0023_last_failure_of_a_number'),
    ]

    operations = [
        migrations.CreateModel(
            name='CallDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(help_text="The day in the account's time zone on which they began.")),
                ('completed', models.IntegerField(default=0)),
                ('unanswered', models.IntegerField(default=0)),
                ('rejected', models.IntegerField(default=0)),
                ('failed', models.IntegerField(default=0)),
                ('on_call_start', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), help_text='Latencies of onCallStart.', size=None)),
                ('turns', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), help_text="Latencies of the agent's turns.", size=None)),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('account', 'day'), name='call_day_of_account')],
            },
        ),
    ]
