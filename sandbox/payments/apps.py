from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """The stand-in for Stripe: its state is in tables of its own."""

    name = "sandbox.payments"
    label = "sandbox_payments"
