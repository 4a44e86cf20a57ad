"""A request id on every request, response and log line."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import cast

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from config.ids import new_id

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")

GetResponse = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


class RequestIdMiddleware:
    """Take the caller's ``X-Request-Id`` when it is a plain token, make one otherwise."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        offered = request.headers.get("X-Request-Id", "")
        request.request_id = offered if _ACCEPTABLE.fullmatch(offered) else new_id()  # type: ignore[attr-defined]
        if iscoroutinefunction(self):
            return self._respond_async(request)
        with structlog.contextvars.bound_contextvars(request_id=request.request_id):  # type: ignore[attr-defined]
            return self._stamp(request, cast(HttpResponse, self.get_response(request)))

    async def _respond_async(self, request: HttpRequest) -> HttpResponse:
        with structlog.contextvars.bound_contextvars(request_id=request.request_id):  # type: ignore[attr-defined]
            response = await cast(Awaitable[HttpResponse], self.get_response(request))
            return self._stamp(request, response)

    def _stamp(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        return response
