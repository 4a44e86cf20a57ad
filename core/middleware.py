"""What holds for every request: it has an id and a largest size, an error of the API one shape, an
outage a 503, an answer the headers that tell browsers and caches what they may do with it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bind_contextvars, clear_contextvars

from core import request_limits
from core.errors import in_shape, outage_response, too_large
from core.ids import new_id
from core.pages import CONTENT_SECURITY_POLICY, PERMISSIONS_POLICY

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")

GetResponse = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


class RequestIdMiddleware:
    """Put an id on the request, its response and its log lines.

    It is the caller's ``X-Request-Id`` when that is a plain token, a new one otherwise.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        offered = request.headers.get("X-Request-Id", "")
        request_id = offered if _ACCEPTABLE.fullmatch(offered) else new_id()
        request.request_id = request_id  # type: ignore[attr-defined]
        # Left bound at the end, until the next request: Django logs a 4xx after all middleware.
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        if iscoroutinefunction(self.get_response):
            return self._respond_async(request, request_id)
        response = _refusal(request) or cast(HttpResponse, self.get_response(request))
        return _finished(request, response, request_id)

    async def _respond_async(self, request: HttpRequest, request_id: str) -> HttpResponse:
        response = _refusal(request)
        if response is None:
            response = await cast(Awaitable[HttpResponse], self.get_response(request))
        return _finished(request, response, request_id)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for a view that had no database, with ``DEBUG`` on as without."""
        return outage_response(request, error)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Refuse a body by its length, before anybody reads it.

    Django looks at the length as well, but not for a form with files, nor before a view asks for
    the body. It is a number: servers see to that.
    """
    length = str(request.META.get("CONTENT_LENGTH") or "0")
    is_fine = len(length) < 10 and int(length) <= request_limits.most_body(request.path)
    return None if is_fine else too_large(request)


def _finished(request: HttpRequest, response: HttpResponse, request_id: str) -> HttpResponse:
    response = in_shape(request, response)
    response["X-Request-Id"] = request_id
    _keep_to_reader(response)
    is_djangos_own = settings.DEBUG and response.status_code in (404, 500)  # with styles in it
    if response.get("Content-Type", "").startswith("text/html") and not is_djangos_own:
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    return response


def _keep_to_reader(response: HttpResponse) -> None:
    """Let nobody keep what is not said to be public, and no other site's page use any of it."""
    if not {"public", "no-store"} & set(re.split(r"[\s,]+", response.get("Cache-Control", ""))):
        response["Cache-Control"] = "no-store"
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    response["Cross-Origin-Resource-Policy"] = "same-origin"
