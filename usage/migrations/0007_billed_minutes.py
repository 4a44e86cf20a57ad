from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0006_wording'),
    ]

    operations = [
        migrations.AlterField(
            model_name='usagerecord',
            name='duration_seconds',
            field=models.PositiveIntegerField(help_text='How long the caller was connected.'),
        ),
        migrations.AlterField(
            model_name='usagerecord',
            name='minutes',
            field=models.PositiveIntegerField(help_text='The billed minutes: from when the model was ready, rounded up to whole minutes.'),
        ),
    ]
