"""Pages for people: rendered from ``templates/``, under one strict content security policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.http import url_has_allowed_host_and_scheme

# Everything comes from this server, and there are no inline scripts or styles.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        # A form may redirect to one of Stripe's pages.
        "form-action 'self' https://checkout.stripe.com https://billing.stripe.com",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

# Browser features that our pages do not use.
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

# Short enough that a new version appears soon.
PUBLIC = "public, max-age=300"

View = Callable[..., HttpResponse]


def public(view: View) -> View:
    """Let caches keep the page for visitors, but not for those who are signed in."""

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
    """Return a page; ``connect_to`` is an additional origin that its scripts may connect to."""
    text = render_to_string(template, dict(context or {}), request)
    response = HttpResponse(text, status=status)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.replace(
        "connect-src 'self'", f"connect-src 'self' {connect_to}".rstrip()
    )
    return response


def error_page(
    request: HttpRequest,
    status: int,
    message: str,
    *,
    explanation: str = "",
    back: str = "",
    has_frame: bool = False,
) -> HttpResponse:
    """Return an error page, without using the database or the session.

    :param back: the path of the page to open again.
    :param has_frame: whether it has the navigation of who is signed in, which uses both.
    """
    context = {
        "status": status,
        "message": message,
        "explanation": explanation,
        "back": back,
        "request_id": getattr(request, "request_id", ""),
        "is_outage": status == 503,
        "sends_something": request.method not in ("GET", "HEAD"),
    }
    text = render_to_string("error.html", context, request if has_frame else None)
    return HttpResponse(text, status=status)


def page_of_form(request: HttpRequest) -> str:
    """Return the path of the page that a form was sent from, or the form's own if it is unknown.

    It is always one of this site. Some forms are sent to a path that is no page.
    """
    referer = request.headers.get("Referer", "")
    hosts, is_secure = {request.get_host()}, request.is_secure()
    if url_has_allowed_host_and_scheme(referer, hosts, require_https=is_secure):
        parts = urlsplit(referer)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if path.startswith("/") and url_has_allowed_host_and_scheme(path, None):
            return path
    return request.get_full_path()


def prefers_html(request: HttpRequest) -> bool:
    """Return True for a browser. A client that accepts anything gets plain text."""
    return _preferred(request) == "text/html"


def prefers_json(request: HttpRequest) -> bool:
    """Return True for a client that asks for JSON."""
    return _preferred(request) == "application/json"


def _preferred(request: HttpRequest) -> str | None:
    return request.get_preferred_type(["text/plain", "text/html", "application/json"])
