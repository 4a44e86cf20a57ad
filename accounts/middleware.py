"""Sets the current actor for the duration of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from accounts.actors import acting

GetResponse = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


class ActorMiddleware:
    """Looks up the actor only when something is logged, because most requests change nothing."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if iscoroutinefunction(self.get_response):
            return self._respond_async(request)
        with acting(request):
            return self.get_response(request)

    async def _respond_async(self, request: HttpRequest) -> HttpResponse:
        with acting(request):
            return await cast(Awaitable[HttpResponse], self.get_response(request))
