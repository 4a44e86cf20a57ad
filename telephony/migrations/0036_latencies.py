from django.db import migrations, models


class Migration(migrations.Migration):
    """Not PositiveIntegerField: its CHECK would be verified for every call, under a lock."""

    dependencies = [
        ('telephony', '0035_calls_by_age'),
    ]

    operations = [
        migrations.AddField(
            model_name='call',
            name='first_audio_ms',
            field=models.IntegerField(blank=True, editable=False, help_text="From the connection to the agent's first words, if the agent spoke first.", null=True),
        ),
        migrations.AddField(
            model_name='call',
            name='turn_p50_ms',
            field=models.IntegerField(blank=True, editable=False, help_text='The latency of turns that half of them did not exceed: see call_figures.', null=True),
        ),
        migrations.AddField(
            model_name='call',
            name='turn_p95_ms',
            field=models.IntegerField(blank=True, editable=False, help_text='The latency of turns that 95% of them did not exceed.', null=True),
        ),
    ]
