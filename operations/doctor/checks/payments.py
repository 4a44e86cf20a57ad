"""The check of Stripe: the key, and what ``setup_stripe`` creates."""

from __future__ import annotations

from collections.abc import Iterable

import stripe
from django.conf import settings

from billing.plan_check import plan_problems
from operations.doctor.findings import Check, Finding, Options, failed, ok, warning

_SET_UP = "Run python manage.py setup_stripe with the environment of the servers."


def _stripe(subject: str, options: Options) -> Iterable[Finding]:
    try:
        problems = list(plan_problems())
    except stripe.AuthenticationError:
        yield failed(
            "Stripe does not accept STRIPE_SECRET_KEY: it was revoked, or is incomplete.",
            "Set STRIPE_SECRET_KEY to a secret key from Stripe's dashboard (Developers, API keys).",
        )
        return
    except stripe.PermissionError:
        yield failed(
            "STRIPE_SECRET_KEY lacks permissions.",
            "Set STRIPE_SECRET_KEY to a secret key without restrictions.",
        )
        return
    except stripe.APIConnectionError:
        yield failed(
            "api.stripe.com cannot be reached from here.",
            "Correct this machine's name server, or let the firewall pass api.stripe.com:443.",
        )
        return
    except stripe.StripeError as error:
        yield failed(
            f"Stripe responds with an error ({type(error).__name__}).",
            "Look at https://status.stripe.com, and run this again.",
        )
        return
    yield from (failed(problem, _SET_UP) for problem in problems)
    if settings.STRIPE_SANDBOX:
        yield warning(
            "The payments sandbox stands in for Stripe.", "Set STRIPE_SECRET_KEY on a server."
        )
    elif not settings.STRIPE_LIVE_MODE:
        yield warning(
            "STRIPE_SECRET_KEY is a test key: nobody pays.",
            "Set it to a live key, and run python manage.py setup_stripe, before customers come.",
        )
    if not problems:
        yield ok("Key, prices, meter and webhooks are as Switchhook needs them.")


STRIPE = Check(
    "stripe",
    "Stripe",
    "Whether the key is valid and in live mode, and whether prices, meter, webhook endpoint and "
    "event destination are as `setup_stripe` creates them.",
    _stripe,
    needs=("STRIPE_SECRET_KEY", "PUBLIC_URL", "MONTHLY_BASE", "PER_MINUTE_RATE"),
    needs_database=True,
)
