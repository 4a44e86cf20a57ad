from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0012_time_zone'),
    ]

    operations = [
        migrations.AddField(
            model_name='account',
            name='hides_checklist',
            field=models.BooleanField(db_default=False, default=False, editable=False, help_text='Whether the owner has hidden the steps to a first call.'),
        ),
    ]
