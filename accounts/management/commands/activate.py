"""``manage.py activate EMAIL``: let an account place and take calls."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Account
from accounts.services import account_activate


class Command(BaseCommand):
    help = "Let an account place and take calls, as a payment would."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "email", metavar="EMAIL", help="the address that the account logs in by"
        )

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        account = Account.objects.with_email(email).first()
        if account is None:
            raise CommandError(f"There is no account with the e-mail address {email}.")
        if account.suspended_by_operator:
            raise CommandError(
                f"{account.email} was suspended by an operator: unsuspend it in the admin first."
            )
        account_activate(account=account)
        self.stdout.write(f"{account.email} is active.")
