import core.texts
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telephony', '0021_failed_requests'),
    ]

    operations = [
        migrations.AddField(
            model_name='phonenumber',
            name='name',
            field=models.CharField(blank=True, db_default='', max_length=64, validators=[core.texts.validate_line]),
        ),
        migrations.AddField(
            model_name='phonenumber',
            name='signed_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='When Twilio last signed a call to it, give or take a minute.', null=True),
        ),
        migrations.AlterField(
            model_name='phonenumber',
            name='verified_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='When Twilio first signed a call to it, or first confirmed that its Twilio account has it.', null=True),
        ),
    ]
