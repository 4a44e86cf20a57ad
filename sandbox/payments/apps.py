from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """The stand-in for Stripe: its state is in its own tables."""

    name = "sandbox.payments"
    label = "sandbox_payments"
