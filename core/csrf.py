"""The response to a form that Django's CSRF protection rejects (``CSRF_FAILURE_VIEW``)."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import (
    REASON_BAD_ORIGIN,
    REASON_BAD_REFERER,
    REASON_INSECURE_REFERER,
    REASON_MALFORMED_REFERER,
    REASON_NO_CSRF_COOKIE,
    REASON_NO_REFERER,
)

from core.errors import ApiError, refusal_response
from core.pages import error_page, page_of_form, prefers_html

log = structlog.get_logger(__name__)

NO_COOKIE, WRONG_ORIGIN, OUTDATED = "csrf_cookie_missing", "csrf_wrong_origin", "csrf_outdated"

# Code → what happened, and what the person can do about it.
_SAYS = {
    NO_COOKIE: (
        "Your browser didn't send our cookie.",
        "Nothing was saved. Allow cookies for this site. Then open the page again and submit the "
        "form again.",
    ),
    WRONG_ORIGIN: (
        "This form seems to come from another site.",
        "Nothing was saved. If you submitted the form on this site, contact support: the server "
        "may be set up with a wrong address.",
    ),
    OUTDATED: (
        "This page is out of date.",
        "Nothing was saved, because you signed in or out after you opened the page, maybe in "
        "another tab. Open the page again and submit the form again.",
    ),
}
# Django's reasons that name what was sent begin like this.
_WRONG_ORIGINS = tuple(
    reason.partition("%s")[0] for reason in (REASON_BAD_ORIGIN, REASON_BAD_REFERER)
)
_NO_ORIGINS = (REASON_NO_REFERER, REASON_MALFORMED_REFERER, REASON_INSECURE_REFERER)
_LOGGED = 200  # characters of a header


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return 403 with the cause, and log what an operator has to know of a wrong origin."""
    code = _code_of(reason)
    message, advice = _SAYS[code]
    if code == WRONG_ORIGIN:
        log.warning(
            "csrf_wrong_origin",
            path=request.path,
            origin=request.headers.get("Origin", "")[:_LOGGED],
            referer=request.headers.get("Referer", "").partition("?")[0][:_LOGGED],
            host=request.get_host(),
            is_secure=request.is_secure(),
            public_url=settings.PUBLIC_URL,
            hint="If people use this address, set PUBLIC_URL to it. The reverse proxy must pass "
            "on Host and X-Forwarded-Proto.",
        )
    if prefers_html(request):
        back = page_of_form(request)
        return error_page(request, 403, message, explanation=advice, back=back)
    return refusal_response(request, ApiError(403, code, f"{message} {advice}"))


def _code_of(reason: str) -> str:
    if reason == REASON_NO_CSRF_COOKIE:
        return NO_COOKIE
    is_wrong_origin = reason in _NO_ORIGINS or reason.startswith(_WRONG_ORIGINS)
    return WRONG_ORIGIN if is_wrong_origin else OUTDATED
