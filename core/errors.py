"""The API's errors, which all have one shape.

``{"error": "One sentence.", "code": "stable_code", "fields": {…}, "requestId": "…"}``, with
``fields`` on 400 only.
"""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Mapping
from http import HTTPStatus
from types import FrameType
from typing import Any

import structlog
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    JsonResponse,
)
from django.views.debug import SafeExceptionReporterFilter
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from core import request_limits
from core.outages import cause_of, is_outage
from core.pages import error_page, prefers_html, prefers_json

log = structlog.get_logger(__name__)

# For the API's description: status → stable code → its cause, in a sentence.
Refusals = Mapping[int, Mapping[str, str]]


class ApiError(exceptions.APIException):
    """An error response: HTTP status, stable code, and a sentence a person can act on."""

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


def unauthorized(code: str, message: str) -> ApiError:
    """Return a 401, with the challenge that HTTP requires."""
    return ApiError(401, code, message, headers={"WWW-Authenticate": "Bearer"})


def invalid(fields: Mapping[str, list[str]], code: str = "invalid_request") -> ApiError:
    """Return a 400 whose message is the first field's first message."""
    name, messages = next(iter(fields.items()))
    return ApiError(400, code, f"{name}: {messages[0]}", fields=fields)


def not_found() -> ApiError:
    """Return the generic 404."""
    return _of_status(404)


def temporarily_unavailable(error: BaseException) -> ApiError:
    """Return the response for an outage, and log its cause."""
    log.error("database_unavailable", error=cause_of(error))
    return ApiError(
        503,
        UNAVAILABLE,
        f"Switchhook is temporarily unavailable. Try again in {RETRY_AFTER_S} seconds.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Turn any exception from a view into an error response (DRF's ``EXCEPTION_HANDLER``)."""
    refusal = _as_api_error(error)
    if refusal.status_code == 500 and not isinstance(error, ApiError):
        log.error("request_failed", exc_info=error)
    body = refusal_body(refusal, context.get("request"))
    return Response(body, status=refusal.status_code, headers=dict(refusal.headers))


def refusal_body(refusal: ApiError, request: Request | None) -> dict[str, Any]:
    """Return the JSON body of an error."""
    request_id = getattr(getattr(request, "_request", request), "request_id", "")
    return error_body(refusal.code, refusal.message, request_id, fields=refusal.fields)


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
            return invalid(_flatten(error.detail))
        case ValidationError():
            return invalid(_of_model(error))
        case exceptions.ParseError():
            return invalid(
                {"body": [f"The body is not valid JSON: {error.detail}."]}, "invalid_json"
            )
        case RequestDataTooBig():
            return invalid({"body": [_TOO_LARGE.format(request_limits.BODY // 1024)]}, TOO_LARGE)
        case exceptions.UnsupportedMediaType():
            return ApiError(
                415, "unsupported_media_type", "Send JSON, with Content-Type: application/json."
            )
        case exceptions.NotAuthenticated():
            return unauthorized(
                "missing_credentials", "Send your API key in the header Authorization: Bearer rtk_…"
            )
        case exceptions.AuthenticationFailed():
            return unauthorized(error.default_code, str(error.detail))
        case exceptions.MethodNotAllowed():
            return ApiError(405, "method_not_allowed", str(error.detail))
        case exceptions.Throttled():
            wait = int(error.wait or 1)  # type: ignore[attr-defined]  # missing in its stubs
            return ApiError(
                429,
                "too_many_requests",
                f"Too many requests. Try again in {wait} seconds.",
                headers={"Retry-After": str(wait)},
            )
        case Http404() | exceptions.NotFound():
            return _of_status(404)
        case PermissionDenied() | exceptions.PermissionDenied():
            return _of_status(403)
        case SuspiciousOperation():
            return _of_status(400)
        case exceptions.APIException():
            return ApiError(error.status_code, str(error.default_code), str(error.detail))
    return temporarily_unavailable(error) if is_outage(error) else _of_status(500)


def _flatten(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Return ``{"tools.0.name": ["…"]}`` for DRF's nested error details."""
    if isinstance(detail, str):
        return {prefix or "body": [str(detail)]}
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


def _of_model(error: ValidationError) -> dict[str, list[str]]:
    """Return the fields of a model's or service's error, by their names in the API."""
    if not hasattr(error, "error_dict"):
        return {"body": error.messages}
    return {
        "body" if name == NON_FIELD_ERRORS else _camel_case(name): messages
        for name, messages in error.message_dict.items()
    }


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _of_status(status: int) -> ApiError:
    if status not in _BY_STATUS:
        phrase = HTTPStatus(status).phrase
        return ApiError(status, phrase.lower().replace(" ", "_"), f"{phrase}.")
    return ApiError(status, *_BY_STATUS[status])


UNAVAILABLE = "temporarily_unavailable"
RETRY_AFTER_S = 5

TOO_LARGE = "body_too_large"
_TOO_LARGE = "The request is too large. Send at most {} KB."
_BY_STATUS = {
    400: ("bad_request", "The request is malformed."),
    403: ("forbidden", "You don't have permission to do this."),
    404: ("not_found", "This resource does not exist."),
    405: ("method_not_allowed", "This address does not accept this method."),
    500: (
        "internal_error",
        "Something went wrong on our side. Send support the request ID.",
    ),
}


# Below: errors outside any DRF view, which Django itself raises.


def _django_error(status: int, request: HttpRequest) -> HttpResponse:
    return refusal_response(request, _of_status(status))


def refusal_response(request: HttpRequest, refusal: ApiError) -> HttpResponse:
    """Return an error outside any view, in the format that the client wants: JSON, HTML or text."""
    response = _refusal(request, refusal)
    for name, value in refusal.headers.items():
        response[name] = value
    return response


def _refusal(request: HttpRequest, refusal: ApiError) -> HttpResponse:
    status, request_id = refusal.status_code, getattr(request, "request_id", "")
    if is_api(request) or prefers_json(request):
        body = error_body(refusal.code, refusal.message, request_id, fields=refusal.fields)
        return JsonResponse(body, status=status)
    if prefers_html(request):
        return error_page(request, status, refusal.message)
    text = f"{refusal.message}\n"
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


def outage_response(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Return a 503 if an outage made a view or a middleware fail, else None."""
    if error is None or not is_outage(error):
        return None
    return refusal_response(request, temporarily_unavailable(error))


def is_api(request: HttpRequest) -> bool:
    return request.path == "/api" or request.path.startswith("/api/")


def in_shape(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the response; below ``/api/``, replace an error in another shape by the API's.

    Such are the pages that Django shows developers when ``DEBUG`` is on. Browsers get a page for a
    wrong method, for which Django's decorators have no text.
    """
    is_page = response.status_code >= 400 and response.get("Content-Type") != "application/json"
    is_wrong_method = isinstance(response, HttpResponseNotAllowed) and prefers_html(request)
    if is_page and (is_api(request) or is_wrong_method):
        return _with_allow(response, _django_error(response.status_code, request))
    return response


def _with_allow(before: HttpResponse, response: HttpResponse) -> HttpResponse:
    if "Allow" in before:
        response["Allow"] = before["Allow"]
    return response


@csrf_exempt
def unknown_path(request: HttpRequest) -> HttpResponse:
    """Return 404 for every path without a view, whether or not ``DEBUG`` is on."""
    return _django_error(404, request)


def too_large(request: HttpRequest) -> HttpResponse:
    """Return 413 for a body that is too large, but 400 from the API."""
    message = _TOO_LARGE.format(request_limits.most_body(request.path) // 1024)
    if is_api(request):
        return refusal_response(request, invalid({"body": [message]}, TOO_LARGE))
    return refusal_response(request, ApiError(413, TOO_LARGE, message))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return too_large(request)
    return _django_error(400, request)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _django_error(403, request)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _django_error(404, request)


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the error for a failure outside any view, while Django handles the exception."""
    return outage_response(request, sys.exc_info()[1]) or _django_error(500, request)


class WithoutValues(SafeExceptionReporterFilter):
    """Django's debug page for an exception, without the values of variables.

    They may hold a customer's credentials, and screenshots of the page are easily shared.
    """

    def get_traceback_frame_variables(
        self, request: HttpRequest, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        return {}.items()

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {}
