"""The base of commands for one account, given by its email address."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Account


class AccountCommand(BaseCommand):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="the account's email address")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        account = Account.objects.with_email(email).first()
        if account is None:
            raise CommandError(f"No account has the email address {email}.")
        self.handle_account(account)

    def handle_account(self, account: Account) -> None:
        raise NotImplementedError
