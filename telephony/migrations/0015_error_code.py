from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telephony', '0014_reworded_help_texts'),
    ]

    operations = [
        migrations.AddField(
            model_name='call',
            name='error_code',
            field=models.CharField(blank=True, db_default='', default='', help_text='What went wrong: why it failed or, if it completed, its first problem.', max_length=80),
        ),
    ]
