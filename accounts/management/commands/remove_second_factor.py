"""``manage.py remove_second_factor EMAIL``: for an operator or a customer who has lost it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Account
from accounts.second_factors import second_factors_remove_all


class Command(BaseCommand):
    help = "Remove an account's second factors and recovery codes, when they are lost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "email", metavar="EMAIL", help="the address that the account logs in by"
        )

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        account = Account.objects.with_email(email).first()
        if account is None:
            raise CommandError(f"There is no account with the e-mail address {email}.")
        if not second_factors_remove_all(account=account):
            raise CommandError(f"{account.email} has no second factor.")
        onward = " It has to add another one to get into the admin." if account.is_staff else ""
        self.stdout.write(f"{account.email} has no second factor any more.{onward}")
