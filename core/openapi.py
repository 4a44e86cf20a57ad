"""How drf-spectacular makes ``docs/openapi.yaml``: what all endpoints have in common.

The errors that follow from how a view is built (it authenticates, takes a body, asks a permission)
are added here, so that :func:`core.schema.endpoint` names only a view's own.
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

# By the first part of the path below /api/: the tag of its operations, and what it is about.
TAGS = {
    "auth": ("Account", "Register, log in, and see where the account stands."),
    "account": ("Account", ""),
    "api-keys": ("API keys", "Keys for programs. Each is shown once, when it is made."),
    "phone-numbers": ("Phone numbers", "Your numbers, and the URLs that are asked about calls."),
    "outbound": ("Calls", "Place calls, look at them, hang up."),
    "calls": ("Calls", ""),
    "deliveries": ("Deliveries", "How callbacks fare at your backend."),
    "usage": ("Usage", "What was used, and what it cost."),
    "billing": ("Billing", "Pay, on Stripe's own pages."),
    "webhooks": ("Webhook secret", "What callbacks are signed with."),
    "audit-events": ("Audit log", "Who did what to the account, when, and from where."),
    "schema": ("This document", "The document itself."),
}

NEEDS_BODY: Refusals = {
    400: {
        "invalid_request": "Fields are missing or wrong: `fields` says which, and why.",
        "invalid_json": "The body is not JSON.",
        "body_too_large": f"The body is larger than {request_limits.BODY // 1024} KB.",
    },
    411: {"length_required": "The body was sent without a Content-Length."},
    415: {"unsupported_media_type": "The body is not `application/json`."},
}
NEEDS_QUERY: Refusals = {400: {"invalid_request": "A parameter is wrong: `fields` says which."}}
NEEDS_ID: Refusals = {404: {"not_found": "You have nothing with this id."}}
OF_ALL: Refusals = {
    406: {"not_acceptable": "The answer is JSON, and `Accept` does not allow that."},
    500: {"internal_error": "Something failed on our side: quote the request id to support."},
    503: {
        UNAVAILABLE: "Switchhook is temporarily unavailable: try again after `Retry-After` seconds."
    },
}

HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The id of the request: its own `X-Request-Id`, if it was fit to be kept.",
        "schema": {"type": "string"},
        "required": True,
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "schema": {"const": "Bearer"},
        "required": True,
    },
    "Retry-After": {
        "description": "In how many seconds to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
# What else a response has that gives one of these codes.
_HEADER_OF_STATUS = {401: "WWW-Authenticate"}
_HEADER_OF_CODE = {
    "too_many_requests": "Retry-After",
    "idempotency_key_in_use": "Retry-After",
    UNAVAILABLE: "Retry-After",
}

_ID = OpenApiParameter("id", str, OpenApiParameter.PATH)

ERROR: Json = {
    "type": "object",
    "description": "Why a request was refused, or failed.",
    "required": ["error", "code", "requestId"],
    "properties": {
        "error": {"type": "string", "description": "One sentence a person can act on."},
        "code": {"type": "string", "description": "What a program goes by. It never changes."},
        "fields": {
            "type": "object",
            "description": "With status 400 only: what is wrong, by the name of the field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        "requestId": {"type": "string", "description": "As in the header `X-Request-Id`."},
    },
}


class AutoSchema(openapi.AutoSchema):
    """drf-spectacular's, with what our endpoints have in common.

    An authenticator or a permission that can refuse a request says so itself: its method
    ``refusals(http_method)`` returns :data:`core.errors.Refusals`.
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
        """Say what text may not hold, which no validator says in a way drf-spectacular reads."""
        super()._insert_field_validators(field, schema)
        if isinstance(field, TextField) and not {"format", "pattern"} & set(schema):
            schema["pattern"] = texts.TEXT if field.lines else texts.LINE

    def _errors_of_parameters(self, operation: Json) -> Refusals:
        """A query can be wrong; what is not known as a ``format`` is not found."""
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
        """Return an error response: the one shape, with its codes and an example."""
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
        """Return a reference to an error response, if it is like the others with its status."""
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
            "description": "An API key (`rtk_…`), or the token of a login.",
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
