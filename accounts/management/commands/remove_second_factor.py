"""``manage.py remove_second_factor EMAIL``: for an operator or customer who lost it."""

from __future__ import annotations

from django.core.management.base import CommandError

from accounts.management.account_command import AccountCommand
from accounts.models import Account
from accounts.second_factors import second_factors_remove_all


class Command(AccountCommand):
    help = "Remove an account's second factors and recovery codes if the owner lost them."

    def handle_account(self, account: Account) -> None:
        if not second_factors_remove_all(account=account):
            raise CommandError(f"{account.email} has no second factor.")
        onward = (
            " Operators must add a new one before they can use the admin."
            if account.is_staff
            else ""
        )
        self.stdout.write(f"{account.email} no longer has a second factor.{onward}")
