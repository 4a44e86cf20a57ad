"""``manage.py setup_stripe``: make at Stripe what is sold, and tell Stripe where to report."""

from __future__ import annotations

from typing import Any

import stripe
from django.core.management.base import BaseCommand, CommandError

from billing.provisioning import plan_set_up
from billing.stripe_api import PaymentsUnavailable


class Command(BaseCommand):
    help = (
        "Make or find products, prices, meter, portal configuration and webhooks at Stripe. "
        "Run it after the first deployment, and whenever prices or PUBLIC_URL have changed."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            plan_set_up(self.stdout.write)
        except PaymentsUnavailable as error:
            raise CommandError(
                f"Stripe did not answer, or refused the key: {error.__cause__}"
            ) from None
        except stripe.StripeError as error:
            raise CommandError(f"Stripe refused: {error.user_message}") from None
