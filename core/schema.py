"""Describes endpoints for the OpenAPI document (``core.openapi``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import yaml
from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.serializers import Serializer

from core.api import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from core.errors import Refusals

View = TypeVar("View", bound=Callable[..., Any])
Json = dict[str, Any]

DOCUMENT = settings.BASE_DIR / "docs" / "openapi.yaml"

PAGE = (
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": 2**31 - 1, "default": DEFAULT_PAGE_SIZE},
        description=f"The most items to return. Above {MAX_PAGE_SIZE} counts as {MAX_PAGE_SIZE}.",
    ),
    OpenApiParameter(
        "offset",
        {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
        description="The number of items to skip.",
    ),
)

# The key under which an operation passes its own errors to ``core.openapi``.
ERRORS = "x-errors"


def endpoint(
    operation_id: str,
    summary: str,
    *,
    answers: Mapping[int, Any],
    request: Any = None,
    errors: Refusals | None = None,
    parameters: Sequence[OpenApiParameter | type[Serializer[Any]]] = (),
    description: str = "",
) -> Callable[[View], View]:
    """Describe a view's method: its request, its responses by status, its errors.

    ``errors`` are only those that do not follow from the view's authentication, permissions, body
    and parameters.
    """
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description,
        request=request,
        parameters=list(parameters),
        responses=dict(answers),
        extensions={ERRORS: errors or {}},
    )


@cache
def document() -> Json:
    """Return the checked-in document."""
    return dict(yaml.load(DOCUMENT.read_bytes(), yaml.CSafeLoader))


def operations(result: Json) -> list[Json]:
    """Return all operations of a document, the webhooks' last."""
    items = [*result["paths"].values(), *result.get("webhooks", {}).values()]
    return [operation for item in items for operation in item.values()]
