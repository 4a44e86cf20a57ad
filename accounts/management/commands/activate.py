"""``manage.py activate EMAIL``: allow an account to make and receive calls."""

from __future__ import annotations

from django.core.management.base import CommandError

from accounts.management.account_command import AccountCommand
from accounts.models import Account
from accounts.services import account_activate


class Command(AccountCommand):
    help = "Activate an account without a payment, so that it can make and receive calls."

    def handle_account(self, account: Account) -> None:
        if account.suspended_by_operator:
            raise CommandError(
                f"{account.email} was suspended by an operator. Unsuspend it in the admin first."
            )
        account_activate(account=account)
        self.stdout.write(f"{account.email} is active.")
