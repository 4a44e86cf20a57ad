"""The one place that sets up Stripe's SDK, and that says what a failure of Stripe's means here."""

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

# Seconds to connect, and between two bytes of an answer. Somebody may be waiting for a page.
_TIMEOUT = (3.05, 12.0)
_RETRIES = 1


class PaymentsUnavailable(ApiError):
    """Stripe could not be asked, or did not serve us: it may be tried again."""

    def __init__(self) -> None:
        super().__init__(
            502, "payments_unavailable", "Payments cannot be reached: try again in a minute."
        )


def configure() -> None:
    """Set up the SDK, for our requests and for those of dj-stripe.

    What the SDK logs of a request is its address and its outcome, never a key, and at a level that
    ``core.logs`` leaves out.
    """
    stripe.api_key = settings.STRIPE_SECRET_KEY
    stripe.api_version = settings.STRIPE_API_VERSION
    stripe.max_network_retries = _RETRIES
    stripe.enable_telemetry = False
    stripe.default_http_client = stripe.RequestsClient(timeout=_TIMEOUT)
    # dj-stripe would write the secret key into the database, in the clear, to remember whose
    # objects it mirrors. There is one Stripe account here.
    StripeModel._find_owner_account = classmethod(
        lambda cls, data, api_key=None, livemode=None: None
    )


def client() -> stripe.StripeClient:
    """Return what Stripe's second API is asked with, in the same way."""
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        stripe_version=settings.STRIPE_API_VERSION,
        max_network_retries=_RETRIES,
        http_client=stripe.default_http_client,
    )


@contextmanager
def asking() -> Iterator[None]:
    """Ask Stripe inside of this: no database connection is held meanwhile.

    (Inside a transaction it is kept.) Raises 502 ``payments_unavailable`` when Stripe is down, slow
    or refuses our key. An ``InvalidRequestError``, which says that we asked for the wrong thing,
    passes.
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
    """Whether Stripe has no such object (any more)."""
    return error.code == "resource_missing"
