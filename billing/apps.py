from django.apps import AppConfig
from django.core.checks.registry import registry


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from djstripe import checks

        from billing.stripe_api import configure

        configure()
        # These query the database for dj-stripe's own webhooks, which are not used.
        registry.registered_checks -= {
            checks.check_webhook_validation,
            checks.check_webhook_endpoint_has_secret,
        }
