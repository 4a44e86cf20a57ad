from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telephony', '0026_indexes_of_callbacks'),
    ]

    operations = [
        migrations.AddField(
            model_name='call',
            name='billed_from',
            field=models.DateTimeField(blank=True, help_text='When the model accepted its configuration, which starts billing. None if it never did, or failed before the agent said or did anything.', null=True),
        ),
        migrations.AlterField(
            model_name='call',
            name='answered_at',
            field=models.DateTimeField(blank=True, help_text="When the caller's audio was connected.", null=True),
        ),
    ]
