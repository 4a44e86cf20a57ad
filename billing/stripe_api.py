"""Sets up Stripe's SDK, and maps its failures to our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import stripe
import structlog
from django.conf import settings
from djstripe.models.base import StripeModel

from core.connections import give_connection_back
from core.errors import ApiError

log = structlog.get_logger(__name__)

# Seconds to connect, and between two bytes of a response. A page may be waiting.
_TIMEOUT = (3.05, 12.0)
_RETRIES = 1


class PaymentsUnavailable(ApiError):
    """Stripe could not be reached, or failed. The request may be retried."""

    def __init__(self) -> None:
        super().__init__(
            502, "payments_unavailable", "Stripe can't be reached. Try again in a minute."
        )


def configure() -> None:
    """Set up the SDK, for our requests and dj-stripe's.

    The SDK logs the URL and the outcome of requests, never a key, at a level that ``core.logs``
    drops.
    """
    stripe.api_key = settings.STRIPE_SECRET_KEY
    stripe.api_version = settings.STRIPE_API_VERSION
    stripe.max_network_retries = _RETRIES
    stripe.enable_telemetry = False
    stripe.default_http_client = stripe.RequestsClient(timeout=_TIMEOUT)
    # dj-stripe would store the secret key in plain text, to remember whose objects it mirrors.
    # There is only one Stripe account here.
    StripeModel._find_owner_account = classmethod(
        lambda cls, data, api_key=None, livemode=None: None
    )


def client() -> stripe.StripeClient:
    """Return a client for Stripe's v2 API, configured in the same way."""
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        stripe_version=settings.STRIPE_API_VERSION,
        max_network_retries=_RETRIES,
        http_client=stripe.default_http_client,
    )


@contextmanager
def asking() -> Iterator[None]:
    """Make requests to Stripe inside, without holding a database connection.

    (In a transaction, the connection is kept.) Raises 502 ``payments_unavailable`` if Stripe is
    down, slow or rejects our key. An ``InvalidRequestError``, for a request that is wrong, passes.
    """
    give_connection_back()
    try:
        yield
    except (
        stripe.APIConnectionError,
        stripe.APIError,
        stripe.RateLimitError,
        stripe.AuthenticationError,
        stripe.PermissionError,
    ) as error:
        log.warning(
            "stripe_unavailable", reason=type(error).__name__, stripe_request=error.request_id
        )
        raise PaymentsUnavailable from error


def is_missing(error: stripe.InvalidRequestError) -> bool:
    """Return True if Stripe does not have the object, or no longer."""
    return error.code == "resource_missing"
