"""``manage.py remove_second_factor EMAIL``: for an operator or a customer who has lost it."""

from __future__ import annotations

from django.core.management.base import CommandError

from accounts.management.account_command import AccountCommand
from accounts.models import Account
from accounts.second_factors import second_factors_remove_all


class Command(AccountCommand):
    help = "Remove an account's second factors and recovery codes, when they are lost."

    def handle_account(self, account: Account) -> None:
        if not second_factors_remove_all(account=account):
            raise CommandError(f"{account.email} has no second factor.")
        onward = " It has to add another one to get into the admin." if account.is_staff else ""
        self.stdout.write(f"{account.email} no longer has a second factor.{onward}")
