"""The one shape in which the API says what went wrong.

``{"error": "One sentence.", "code": "stable_code", "fields": {…}, "requestId": "…"}``, with
``fields`` on 400 only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import close_old_connections
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

log = structlog.get_logger(__name__)


class ApiError(exceptions.APIException):
    """A refusal: HTTP status, stable code, and one sentence a person can act on."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: Mapping[str, list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail=message, code=code)
        self.status_code = status
        self.code = code
        self.message = message
        self.fields = fields
        self.headers = headers or {}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Answer any exception from a view in the one shape (DRF's ``EXCEPTION_HANDLER``)."""
    request = context.get("request")
    request_id = getattr(getattr(request, "_request", request), "request_id", "")
    refusal = _as_api_error(error)
    if refusal.status_code >= 500 and not isinstance(error, ApiError):
        log.error("request_failed", exc_info=error)
        close_old_connections()
    body = error_body(refusal.code, refusal.message, request_id, fields=refusal.fields)
    return Response(body, status=refusal.status_code, headers=dict(refusal.headers))


def error_body(
    code: str, message: str, request_id: str, *, fields: Mapping[str, list[str]] | None = None
) -> dict[str, Any]:
    body: dict[str, Any] = {"error": message, "code": code}
    if fields:
        body["fields"] = dict(fields)
    return body | {"requestId": request_id}


def _as_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case exceptions.ValidationError():
            fields = _flatten(error.detail)
            name, messages = next(iter(fields.items()))
            return ApiError(400, "invalid_request", f"{name}: {messages[0]}", fields=fields)
        case exceptions.ParseError():
            return ApiError(400, "invalid_json", "The request body is not valid JSON.")
        case exceptions.UnsupportedMediaType():
            return ApiError(
                415, "unsupported_media_type", "Send JSON, with Content-Type: application/json."
            )
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            code = error.get_codes() if isinstance(error.get_codes(), str) else "unauthorized"
            return ApiError(
                401,
                str(code) if code != "not_authenticated" else "unauthorized",
                str(error.detail),
                headers={"WWW-Authenticate": "Bearer"},
            )
        case exceptions.MethodNotAllowed():
            return ApiError(405, "method_not_allowed", str(error.detail))
        case exceptions.Throttled():
            wait = int(error.wait or 1)
            return ApiError(
                429,
                "too_many_requests",
                f"Too many requests: try again in {wait} s.",
                headers={"Retry-After": str(wait)},
            )
        case Http404() | exceptions.NotFound():
            return ApiError(404, "not_found", "There is no such resource.")
        case PermissionDenied() | exceptions.PermissionDenied():
            return ApiError(403, "forbidden", "You may not do that.")
        case exceptions.APIException():
            return ApiError(error.status_code, str(error.default_code), str(error.detail))
    return ApiError(
        500, "internal_error", "Something failed on our side. Quote the request id to support."
    )


def _flatten(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Return ``{"tools.0.name": ["…"]}`` for DRF's nested error details."""
    if isinstance(detail, Mapping):
        items = [(str(key), value) for key, value in detail.items()]
    elif all(isinstance(entry, str) for entry in detail):
        return {prefix or "body": [str(entry) for entry in detail]}
    else:
        items = [(str(index), value) for index, value in enumerate(detail) if value]
    fields: dict[str, list[str]] = {}
    for key, value in items:
        name = "body" if key == "non_field_errors" else key
        fields |= _flatten(value, f"{prefix}.{name}" if prefix else name)
    return fields


# Below: what Django itself answers, outside any DRF view.

_DJANGO_ERRORS = {
    400: ("bad_request", "The request could not be read."),
    403: ("forbidden", "You may not do that."),
    404: ("not_found", "There is no such resource."),
    500: ("internal_error", "Something failed on our side. Quote the request id to support."),
}


def _django_error(status: int, request: HttpRequest) -> HttpResponse:
    code, message = _DJANGO_ERRORS[status]
    request_id = getattr(request, "request_id", "")
    if request.path.startswith("/api/"):
        return JsonResponse(error_body(code, message, request_id), status=status)
    return HttpResponse(f"{message}\n", status=status, content_type="text/plain; charset=utf-8")


@csrf_exempt
def unknown_path(request: HttpRequest) -> HttpResponse:
    """Answer every path below ``/api/`` that no view serves (with DEBUG on too)."""
    return _django_error(404, request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _django_error(400, request)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _django_error(403, request)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _django_error(404, request)


def server_error(request: HttpRequest) -> HttpResponse:
    return _django_error(500, request)
