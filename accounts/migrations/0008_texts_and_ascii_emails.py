from django.db import migrations, models

import accounts.email_addresses
from accounts.email_addresses import normalize_email
import core.texts


def use_ascii_domains(apps, schema_editor):
    """Write internationalised domains as addresses are looked for from now on.

    An address that has no such form, or is too long or another account's in it, stays as it is.
    """
    accounts = apps.get_model("accounts", "Account").objects
    for account in accounts.filter(email__regex=r"[^\x01-\x7f]"):
        email = normalize_email(account.email)
        is_usable = email.isascii() and len(email) <= 254
        if is_usable and not accounts.filter(email=email).exists():
            account.email = email
            account.save(update_fields=["email"])


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_sessions_epoch"),
    ]

    operations = [
        migrations.RunPython(use_ascii_domains, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="account",
            name="company_name",
            field=models.CharField(
                blank=True, max_length=200, validators=[core.texts.validate_line]
            ),
        ),
        migrations.AlterField(
            model_name="account",
            name="email",
            field=models.EmailField(
                max_length=254,
                unique=True,
                validators=[accounts.email_addresses.validate_ascii_email],
            ),
        ),
        migrations.AlterField(
            model_name="account",
            name="suspension_reason",
            field=models.CharField(
                blank=True,
                help_text="Why an operator did; the customer does not see it.",
                max_length=500,
                validators=[core.texts.validate_line],
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="label",
            field=models.CharField(max_length=100, validators=[core.texts.validate_line]),
        ),
    ]
