"""How views describe their endpoints, and the document that comes of it (``core.openapi``)."""

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
        description=f"How many at most. More than {MAX_PAGE_SIZE} is served as {MAX_PAGE_SIZE}.",
    ),
    OpenApiParameter(
        "offset",
        {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
        description="How many to leave out.",
    ),
)

# Where an operation keeps its own errors on the way to ``core.openapi``.
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
    """Describe a view's method: what it takes, what it answers by status, how it can fail.

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
    """Return the document as it is checked in."""
    return dict(yaml.load(DOCUMENT.read_bytes(), yaml.CSafeLoader))


def operations(result: Json) -> list[Json]:
    """Return all operations of a document, the webhooks' last."""
    items = [*result["paths"].values(), *result.get("webhooks", {}).values()]
    return [operation for item in items for operation in item.values()]
