import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telephony', '0017_index_of_results'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='MetadataValue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField()),
                ('value', models.CharField(max_length=200)),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('call', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='metadata_values', to='telephony.call')),
            ],
            options={
                'indexes': [models.Index(fields=['account', 'value', '-created_at', '-call'], name='metadata_by_value')],
                'constraints': [models.UniqueConstraint(fields=('call', 'value'), name='metadata_value_of_call')],
            },
        ),
    ]
