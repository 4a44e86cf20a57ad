"""``manage.py setup_stripe``: create the plan and the webhooks in Stripe."""

from __future__ import annotations

from typing import Any

import stripe
from django.core.management.base import BaseCommand, CommandError

from billing.provisioning import plan_set_up
from billing.stripe_api import PaymentsUnavailable


class Command(BaseCommand):
    help = (
        "Create or update products, prices, the meter, the portal and webhooks in Stripe. "
        "Run it after the first deployment, and whenever prices or PUBLIC_URL change."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            plan_set_up(self.stdout.write)
        except PaymentsUnavailable as error:
            raise CommandError(
                f"Stripe could not be reached, or rejected the key: {error.__cause__}"
            ) from None
        except stripe.StripeError as error:
            raise CommandError(f"Stripe rejected a request: {error.user_message}") from None
