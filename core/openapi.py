"""Generates ``docs/openapi.yaml`` with drf-spectacular.

The errors that follow from a view's authentication, body and permissions are added here, so that
:func:`core.schema.endpoint` lists only a view's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import yaml
from django.conf import settings
from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter

from core import request_limits, texts
from core.api import TextField
from core.errors import UNAVAILABLE, Refusals
from core.schema import ERRORS, Json, operations

EXAMPLES = settings.BASE_DIR / "docs" / "openapi" / "examples.yaml"

# By the first part of the path below /api/: the tag of its operations, and its description.
TAGS = {
    "auth": ("Account", "Sign up, sign in, and get the status of your account."),
    "account": ("Account", ""),
    "api-keys": ("API keys", "Keys for your code. A key is only shown when you create it."),
    "phone-numbers": ("Phone numbers", "Your numbers and their callback URLs."),
    "outbound": ("Calls", "Place calls, list them, and hang up."),
    "calls": ("Calls", ""),
    "deliveries": ("Deliveries", "Callbacks to your backend and their attempts."),
    "usage": ("Usage", "Usage and its costs."),
    "billing": ("Billing", "Subscription, invoices and spending limit. You pay on Stripe's pages."),
    "webhooks": ("Webhook secret", "The secret that signs callbacks."),
    "audit-events": ("Audit log", "Changes to the account, and who made them."),
    "schema": ("This document", "This document."),
}

NEEDS_BODY: Refusals = {
    400: {
        "invalid_request": "Fields are missing or invalid. `fields` has the reasons.",
        "invalid_json": "The body is not JSON.",
        "body_too_large": f"The body is larger than {request_limits.BODY // 1024} KB.",
    },
    411: {"length_required": "The body was sent without a Content-Length."},
    415: {"unsupported_media_type": "The body is not `application/json`."},
}
NEEDS_QUERY: Refusals = {400: {"invalid_request": "A parameter is invalid. `fields` says which."}}
NEEDS_ID: Refusals = {404: {"not_found": "You have no such object with this ID."}}
OF_ALL: Refusals = {
    406: {"not_acceptable": "The response is JSON, which `Accept` does not allow."},
    500: {"internal_error": "Something went wrong on our side. Send support the request ID."},
    503: {
        UNAVAILABLE: "Switchhook is temporarily unavailable. Try again after `Retry-After` seconds."
    },
}

HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The request ID: a valid `X-Request-Id` that you sent, or a new one.",
        "schema": {"type": "string"},
        "required": True,
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "schema": {"const": "Bearer"},
        "required": True,
    },
    "Retry-After": {
        "description": "The number of seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
# Headers of responses with these statuses and codes.
_HEADER_OF_STATUS = {401: "WWW-Authenticate"}
_HEADER_OF_CODE = {
    "too_many_requests": "Retry-After",
    "idempotency_key_in_use": "Retry-After",
    UNAVAILABLE: "Retry-After",
}

_ID = OpenApiParameter("id", str, OpenApiParameter.PATH)

ERROR: Json = {
    "type": "object",
    "description": "The reason why a request failed.",
    "required": ["error", "code", "requestId"],
    "properties": {
        "error": {"type": "string", "description": "One sentence a person can act on."},
        "code": {"type": "string", "description": "A stable code for programs."},
        "fields": {
            "type": "object",
            "description": "With status 400 only: the problems by field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        "requestId": {"type": "string", "description": "The same as the header `X-Request-Id`."},
    },
}


class AutoSchema(openapi.AutoSchema):
    """drf-spectacular's schema, with the parts that all endpoints share.

    An authenticator or a permission that can reject a request has a method
    ``refusals(http_method)``, which returns :data:`core.errors.Refusals`.
    """

    def get_tags(self) -> list[str]:
        name, _ = TAGS[self.path.split("/")[2]]
        return [name]

    def get_override_parameters(self) -> list[Any]:
        return [_ID] if "{id}" in self.path else []

    def get_operation(self, *args: Any, **kwargs: Any) -> Json | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        own = _merged(operation.pop(ERRORS, {}), self._errors_of_parameters(operation))
        responses: Json = {
            status: {**answer, "description": f"{HTTPStatus(int(status)).phrase}."}
            for status, answer in operation["responses"].items()
        }
        for status, codes in _merged(own, self._errors_of_view(operation)).items():
            error = self._error(status, codes)
            if status in own:
                error["headers"] |= self._get_response_headers_for_code(str(status))
            responses[str(status)] = error if status in own else self._shared(status, error)
        for response in responses.values():
            if "$ref" not in response:
                self._add_header(response, "X-Request-Id")
        operation["responses"] = dict(sorted(responses.items()))
        return dict(operation)

    def _insert_field_validators(self, field: Any, schema: Json) -> None:
        """Add the pattern of allowed text, which drf-spectacular can't read from a validator."""
        super()._insert_field_validators(field, schema)
        if isinstance(field, TextField) and not {"format", "pattern"} & set(schema):
            schema["pattern"] = texts.TEXT if field.lines else texts.LINE

    def _errors_of_parameters(self, operation: Json) -> Refusals:
        """Return the errors of query parameters. An unknown ``format`` is a 404."""
        parameters = {(each["in"], each["name"]) for each in operation.get("parameters", [])}
        in_query = {name for place, name in parameters if place == "query"}
        return NEEDS_QUERY if in_query - {"format"} else {}

    def _errors_of_view(self, operation: Json) -> Refusals:
        guards = [*self.view.get_authenticators(), *self.view.get_permissions()]
        return _merged(
            OF_ALL,
            NEEDS_BODY if "requestBody" in operation else {},
            NEEDS_ID if "{" in self.path else {},
            *(guard.refusals(self.method) for guard in guards if hasattr(guard, "refusals")),
        )

    def _error(self, status: int, codes: Mapping[str, str]) -> Json:
        """Return an error response with its codes and an example."""
        response = {
            "description": "\n".join(f"- `{code}`: {when}" for code, when in codes.items()),
            "content": {
                "application/json": {
                    "schema": {
                        "$ref": "#/components/schemas/Error",
                        "properties": {"code": {"enum": list(codes)}},
                    },
                    "example": _error_example(*next(iter(codes.items()))),
                }
            },
        }
        self._add_header(response, "X-Request-Id")
        if status in _HEADER_OF_STATUS:
            self._add_header(response, _HEADER_OF_STATUS[status])
        for code in codes:
            if code in _HEADER_OF_CODE:
                self._add_header(response, _HEADER_OF_CODE[code])
        return response

    def _shared(self, status: int, response: Json) -> Json:
        """Return a reference to the shared response of a status if this one is the same."""
        name = HTTPStatus(status).phrase.title().replace(" ", "")
        reference = self._component(ResolvedComponent.RESPONSE, name, response)
        is_the_same = self.registry[name, ResolvedComponent.RESPONSE].schema == response
        return reference if is_the_same else response

    def _add_header(self, response: Json, name: str) -> None:
        headers = response.setdefault("headers", {})
        headers[name] = self._component(ResolvedComponent.HEADER, name, HEADERS[name])

    def _component(self, kind: str, name: str, content: Json) -> Json:
        component = ResolvedComponent(name=name, type=kind, schema=content, object=name)
        self.registry.register_on_missing(component)
        return component.ref


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> Json:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`rtk_…`), or a token from login.",
        }


def finish(result: Json, **kwargs: Any) -> Json:
    """Add what belongs to no view, and the examples (a post-processing hook)."""
    schemas = result["components"]["schemas"]
    schemas["Error"] = ERROR
    result["tags"] = [
        {"name": name, "description": about} for name, about in TAGS.values() if about
    ]
    examples = yaml.load(EXAMPLES.read_bytes(), yaml.CSafeLoader)
    for operation in operations(result):
        _add_examples(operation, examples.get(operation["operationId"], {}))
    result["components"] = {
        kind: dict(sorted(items.items())) for kind, items in sorted(result["components"].items())
    }
    return result


def _error_example(code: str, when: str) -> Json:
    fields = {"fields": {"name": ["This field is required."]}} if code == "invalid_request" else {}
    sentence = "name: This field is required." if fields else when.replace("`", "")
    return {"error": sentence, "code": code, **fields, "requestId": "cmnp1qk2y00007h3z9x4v8b2m"}


def _add_examples(operation: Json, examples: Json) -> None:
    """Put examples into an operation: ``request`` and, by status, what is answered to it."""
    bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
    for place, example in examples.items():
        content = bodies[str(place)]["content"]["application/json"]
        if set(content["schema"]) == {"anyOf"}:  # one for each kind of body, by what it is about
            content["examples"] = {name: {"value": value} for name, value in example.items()}
        else:
            content["example"] = example


def _merged(*parts: Refusals) -> dict[int, dict[str, str]]:
    """Return the codes of all parts by status; of two sentences for a code, the first one's."""
    merged: dict[int, dict[str, str]] = {}
    for part in parts:
        for status, codes in part.items():
            merged[status] = {**codes, **merged.get(status, {})}
    return merged
