"""Rejects requests with invalid text before a view sees them.

Of bodies, only forms are checked here. The API's parser and fields check theirs (``core.api``), and
webhooks read their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.admin.utils import unquote
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.request import UnreadablePostError
from django.utils.http import parse_header_parameters

from core.errors import ApiError, invalid, not_found, refusal_response
from core.texts import line_problem, text_problem

GetResponse = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]

# Of a Content-Type. In other charsets, a text could have characters that UTF-8 lacks.
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_UNREADABLE = "unreadable"
_LONGEST_NAME = 100  # of a field, as an error repeats it


class BoundaryMiddleware:
    """Return 400 with the name of the invalid part, or 404 for an invalid path."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        refused = _refused(request, partial(_check_request, request))
        if iscoroutinefunction(self.get_response):
            return self._respond_async(request, refused)
        return refused or self.get_response(request)

    async def _respond_async(
        self, request: HttpRequest, refused: HttpResponse | None
    ) -> HttpResponse:
        return refused or await cast(Awaitable[HttpResponse], self.get_response(request))

    def process_view(
        self, request: HttpRequest, view: Any, args: Iterable[Any], kwargs: Mapping[str, Any]
    ) -> HttpResponse | None:
        """Check the admin's ids, and a form wherever Django reads its CSRF token."""
        return _refused(request, partial(_check_view, request, view, kwargs))


def _refused(request: HttpRequest, check: Callable[[], None]) -> HttpResponse | None:
    try:
        check()
    except ApiError as refusal:
        return refusal_response(request, refusal)
    return None


def _check_request(request: HttpRequest) -> None:
    charset = (request.content_params or {}).get("charset", "utf-8")
    is_known = charset.lower() in _CHARSETS
    _require_none("Content-Type", None if is_known else "Send text in UTF-8, with charset=utf-8.")
    _check_path(request.path)
    _check_fields("query", request.GET)
    for name, value in request.headers.items():
        _require_none(name, text_problem(_decoded(value)))
    for name, value in request.COOKIES.items():
        _require_none("Cookie", text_problem(name) or text_problem(value))


def _check_view(request: HttpRequest, view: Any, kwargs: Mapping[str, Any]) -> None:
    # The admin escapes ids in paths in its own way. Elsewhere, ``_0A`` may be part of a signature.
    if request.resolver_match and "admin" in request.resolver_match.app_names:
        for value in kwargs.values():
            _check_path(unquote(str(value)))
    if request.method == "POST" and not getattr(view, "csrf_exempt", False):
        with suppress(UnreadablePostError):  # the client is gone
            _check_fields("body", request.POST)


def _check_path(text: str) -> None:
    """Raise 404 for an invalid path: nothing can have that name."""
    if line_problem(text):
        raise not_found()


def _check_fields(where: str, fields: QueryDict) -> None:
    for name, values in fields.lists():
        _require_none(where, line_problem(name))
        for value in values:
            _require_none(name[:_LONGEST_NAME], text_problem(str(value)))


def _require_none(name: str, problem: str | None) -> None:
    if problem:
        raise invalid({name: [problem]})


def _decoded(header: str) -> str:
    """Decode a header as UTF-8, which servers pass on as Latin-1."""
    if header.isascii():
        return header
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


class _AlwaysUtf8(HttpRequest):
    """A request that is read as UTF-8, whatever its Content-Type says.

    Django would use the charset of the Content-Type before any middleware or error page, and fails
    with some. The middleware rejects all others.
    """

    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        try:
            found = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            found = ("", {"charset": _UNREADABLE})
        self.content_type, self.content_params = found


class BoundedWSGIRequest(_AlwaysUtf8, WSGIRequest):
    """The request class of ``config.wsgi``."""


class BoundedASGIRequest(_AlwaysUtf8, ASGIRequest):
    """The request class of ``config.asgi``."""
