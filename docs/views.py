"""Views of the landing page, the guides, and the API reference and its OpenAPI document."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.types import OpenApiTypes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.errors import page_not_found
from core.pages import PUBLIC, page, public
from core.schema import document, endpoint
from docs.guides import GUIDES, SKILL, guide_text, guides_by_audience, read_guide
from docs.readers import FILLED_IN, filled_in
from docs.reference import reference
from docs.search import search_index

# Compressed pages (gzip_page) have no secret beside text that a link can choose.
MARKDOWN = "text/markdown; charset=utf-8"


class SchemaView(APIView):
    """``GET /api/schema``: ``docs/openapi.yaml`` in the requested format."""

    authentication_classes = []
    permission_classes = [AllowAny]
    renderer_classes = [
        OpenApiJsonRenderer2,
        OpenApiYamlRenderer2,
        OpenApiJsonRenderer,
        OpenApiYamlRenderer,
    ]

    @endpoint(
        "getSchema",
        "Get this document",
        description="As JSON or YAML, by `Accept` or by `format`.",
        answers={200: OpenApiTypes.OBJECT},
        errors={404: {"not_found": "There is no such format."}},
    )
    def get(self, request: Request) -> Response:
        return Response(document(), headers={"Cache-Control": PUBLIC})


@require_safe
@public
def landing(request: HttpRequest) -> HttpResponse:
    return page(request, "landing.html")


@require_safe
@gzip_page
def search(request: HttpRequest, digest: str) -> HttpResponse:
    """Return the index for the search. A page from before a deploy gets the current one."""
    current = search_index()
    response = HttpResponse(current.json, content_type="application/json")
    is_current = digest == current.digest
    response["Cache-Control"] = "public, max-age=31536000, immutable" if is_current else PUBLIC
    return response


@require_safe
@gzip_page
@public
def index(request: HttpRequest) -> HttpResponse:
    return page(request, "docs/index.html", _docs())


def _docs() -> dict[str, Any]:
    """Return what the pages of the guides share."""
    return {
        "section": "docs",
        "audiences": guides_by_audience(),
        "search_index": search_index(),
    }


@require_safe
@gzip_page
@public
def guide(request: HttpRequest, slug: str) -> HttpResponse:
    if slug not in GUIDES:
        return page_not_found(request, LookupError(slug))
    found = read_guide(slug)
    context = _docs() | {"guide": found, "html": found.html}
    if request.user.is_authenticated and slug in FILLED_IN:
        context |= {"html": filled_in(found.html, request.user), "is_own": True}
    return page(request, "docs/guide.html", context)


@require_safe
@public
def guide_markdown(request: HttpRequest, slug: str) -> HttpResponse:
    """Return a guide as Markdown, for programs."""
    if slug not in GUIDES:
        return page_not_found(request, LookupError(slug))
    return HttpResponse(guide_text(slug), content_type=MARKDOWN)


@require_safe
@public
def skill(request: HttpRequest) -> HttpResponse:
    """Return the skill that teaches coding agents to build a backend."""
    return HttpResponse(guide_text(SKILL), content_type=MARKDOWN)


@require_safe
@public
def llms(request: HttpRequest) -> HttpResponse:
    """Return the index of the guides, as https://llmstxt.org defines it."""
    context = {"audiences": guides_by_audience(), "public_url": settings.PUBLIC_URL}
    text = render_to_string("docs/llms.txt", context)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_safe
@gzip_page
@public
def api_reference(request: HttpRequest) -> HttpResponse:
    context = {
        "section": "api",
        "search_index": search_index(),
        "reference": reference(),
        "body": _reference_body(settings.PUBLIC_URL),
    }
    return page(request, "docs/api.html", context)


@lru_cache(maxsize=2)
def _reference_body(public_url: str) -> str:
    """Return the chapters of the API reference, which are the same for everybody."""
    return render_to_string("docs/api_body.html", {"reference": reference()})
