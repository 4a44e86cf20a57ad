"""Middleware for every request: its ID, its size limit, the shape of API errors, 503 in an outage,
and the headers that tell browsers and caches how to use the response."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bind_contextvars, clear_contextvars

from core import request_limits
from core.errors import in_shape, outage_response, too_large
from core.ids import new_id
from core.observers import tell
from core.pages import CONTENT_SECURITY_POLICY, PERMISSIONS_POLICY

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")

GetResponse = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request has a response, whose body may not have been sent yet. Tells observers."""

    path: str
    status: int
    seconds: float


class RequestIdMiddleware:
    """Adds an ID to the request, its response and its log lines.

    It is the client's ``X-Request-Id`` if that is a plain token, else a new one.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        began = monotonic()
        offered = request.headers.get("X-Request-Id", "")
        request_id = offered if _ACCEPTABLE.fullmatch(offered) else new_id()
        request.request_id = request_id  # type: ignore[attr-defined]
        # Left bound at the end, until the next request: Django logs a 4xx after all middleware.
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        if iscoroutinefunction(self.get_response):
            return self._respond_async(request, request_id, began)
        response = _refusal(request) or cast(HttpResponse, self.get_response(request))
        return _finished(request, response, request_id, began)

    async def _respond_async(
        self, request: HttpRequest, request_id: str, began: float
    ) -> HttpResponse:
        response = _refusal(request)
        if response is None:
            response = await cast(Awaitable[HttpResponse], self.get_response(request))
        return _finished(request, response, request_id, began)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return a 503 for a view that had no database, whether or not ``DEBUG`` is on."""
        return outage_response(request, error)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Reject a body by its Content-Length, before it is read.

    Django checks the length too, but not for a form with files, and not before a view reads the
    body. Servers ensure that the length is a number.
    """
    length = str(request.META.get("CONTENT_LENGTH") or "0")
    is_fine = len(length) < 10 and int(length) <= request_limits.most_body(request.path)
    return None if is_fine else too_large(request)


def _finished(
    request: HttpRequest, response: HttpResponse, request_id: str, began: float
) -> HttpResponse:
    tell(RequestAnswered(request.path, response.status_code, monotonic() - began))
    response = in_shape(request, response)
    response["X-Request-Id"] = request_id
    _keep_to_reader(response)
    is_djangos_own = settings.DEBUG and response.status_code in (404, 500)  # with styles in it
    if response.get("Content-Type", "").startswith("text/html") and not is_djangos_own:
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    return response


def _keep_to_reader(response: HttpResponse) -> None:
    """Keep caches from storing what is not public, and other sites from embedding anything."""
    if not {"public", "no-store"} & set(re.split(r"[\s,]+", response.get("Cache-Control", ""))):
        response["Cache-Control"] = "no-store"
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    response["Cross-Origin-Resource-Policy"] = "same-origin"
