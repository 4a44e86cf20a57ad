"""Pages for people: rendered from ``templates/``, under one strict content security policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

# Everything comes from this server, and nothing is written into the page: neither script nor style.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        # A form here may lead to one of Stripe's pages.
        "form-action 'self' https://checkout.stripe.com https://billing.stripe.com",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

# What a browser would let pages do if they asked, and ours do not.
PERMISSIONS_POLICY = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "camera",
        "display-capture",
        "encrypted-media",
        "geolocation",
        "gyroscope",
        "hid",
        "idle-detection",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "serial",
        "usb",
        "xr-spatial-tracking",
    )
)
PERMISSIONS_POLICY_WITH_MICROPHONE = PERMISSIONS_POLICY.replace(
    "microphone=()", "microphone=(self)"
)

# A new version's text is seen soon enough.
PUBLIC = "public, max-age=300"

View = Callable[..., HttpResponse]


def public(view: View) -> View:
    """Let caches keep what visitors see. Who is logged in sees more, and that is not kept."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if response.status_code == 200 and not request.user.is_authenticated:
            response["Cache-Control"] = PUBLIC
        return response

    return wrapped


def page(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    connect_to: str = "",
) -> HttpResponse:
    """Return a page; ``connect_to`` is one more origin that its scripts may talk to."""
    text = render_to_string(template, dict(context or {}), request)
    response = HttpResponse(text, status=status)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.replace(
        "connect-src 'self'", f"connect-src 'self' {connect_to}".rstrip()
    )
    return response


def error_page(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """Say what went wrong, without a look at the database or at who asks."""
    context = {
        "status": status,
        "message": message,
        "request_id": getattr(request, "request_id", ""),
        "is_outage": status == 503,
        "sends_something": request.method not in ("GET", "HEAD"),
    }
    return HttpResponse(render_to_string("error.html", context), status=status)


def prefers_html(request: HttpRequest) -> bool:
    """Whether a browser asks: a program that takes anything is better off with plain text."""
    return request.get_preferred_type(["text/plain", "text/html"]) == "text/html"
