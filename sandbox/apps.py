from django.apps import AppConfig
from django.conf import settings


class SandboxConfig(AppConfig):
    """The stand-ins: their management commands, and the one that replaces Stripe."""

    name = "sandbox"

    def ready(self) -> None:
        if settings.STRIPE_SANDBOX:
            import stripe

            from sandbox.payments.transport import SandboxClient

            stripe.default_http_client = SandboxClient()
