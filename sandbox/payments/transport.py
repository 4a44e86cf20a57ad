"""The HTTP client for stripe-python: it calls the stand-in in this process, without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import stripe
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import F
from requests.structures import CaseInsensitiveDict

import sandbox.payments.resources  # noqa: F401  (lets them be asked for)
from core.connections import give_connection_back
from sandbox.payments.models import Fault
from sandbox.payments.wire.answering import Response, answer, refused
from sandbox.payments.wire.errors import Refusal


class SandboxClient(stripe.HTTPClient):
    """Responds as Stripe does, from PostgreSQL.

    Each request is a transaction. Inside the caller's transaction it is part of that one, and is
    undone with it: product code should not call Stripe with a transaction open.
    """

    name = "sandbox"

    def __init__(self) -> None:
        super().__init__()
        if not settings.SANDBOX:
            raise ImproperlyConfigured("The payments sandbox is for SANDBOX=1 alone.")
        _refuse_live_key(settings.STRIPE_SECRET_KEY)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        **_options: Any,
    ) -> tuple[str, int, Mapping[str, str]]:
        """Return body, status and headers; raise ``stripe.APIConnectionError`` if so configured."""
        sent = CaseInsensitiveDict(headers or {})
        _refuse_live_key(sent.get("Authorization", "").removeprefix("Bearer "))
        method = method.upper()
        try:
            response = _with_faults(method, url, sent, post_data or "")
        finally:
            give_connection_back()
        return response.body, response.status, CaseInsensitiveDict(response.headers)

    def request_stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Nothing that is asked for here is a stream.")

    def close(self) -> None:
        """Do nothing: no connection is kept open."""


def _refuse_live_key(key: str) -> None:
    if key.startswith(("sk_live_", "rk_live_")):
        raise ImproperlyConfigured("The payments sandbox refuses live keys of Stripe's.")


def _with_faults(method: str, url: str, headers: Mapping[str, str], sent: str) -> Response:
    match _next_fault(method, urlsplit(url).path):
        case Fault.Kind.UNREACHABLE:
            raise _unreachable()
        case Fault.Kind.LOST:
            answer(method, url, headers, sent)
            raise _unreachable()
        case Fault.Kind.BROKEN:
            return refused(Refusal("An unknown error occurred.", status=500, type="api_error"))
        case Fault.Kind.BUSY:
            return refused(Refusal("Request rate limit exceeded.", status=429, code="rate_limit"))
    return answer(method, url, headers, sent)


def _next_fault(method: str, path: str) -> str | None:
    """Return the kind of the first failure that matches the request, and count it."""
    for fault in Fault.objects.order_by("id"):
        if fault.method in ("", method) and path.startswith(fault.path) and _is_left(fault):
            return fault.kind
    return None


def _is_left(fault: Fault) -> bool:
    """Count a failure down; concurrent requests each use up one."""
    if fault.times_left is None:
        return True
    left = Fault.objects.filter(pk=fault.pk, times_left__gt=0)
    return bool(left.update(times_left=F("times_left") - 1))


def _unreachable() -> stripe.APIConnectionError:
    return stripe.APIConnectionError(
        "Unexpected error communicating with Stripe: the sandbox was told to fail.",
        should_retry=True,
    )
