"""Lists, page by page."""

from __future__ import annotations

from typing import Any

from sandbox.payments.models import StripeObject, StripeObjectQuerySet
from sandbox.payments.wire.errors import Refusal, missing
from sandbox.payments.wire.requests import Params

_LIMIT = 10
_MOST = 100


def whole_list(bodies: list[dict[str, Any]], url: str) -> dict[str, Any]:
    """Return a list that has no more pages."""
    return {"object": "list", "data": bodies, "has_more": False, "url": url}


def whole_v2_list(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a list of the v2 API, always in one page here."""
    return {"data": bodies, "next_page_url": None, "previous_page_url": None}


def page_of(params: Params, found: StripeObjectQuerySet, url: str) -> dict[str, Any]:
    """Return the requested page, newest first; raise Refusal."""
    limit, after = params.take("limit", _LIMIT), params.take("starting_after")
    if not 1 <= limit <= _MOST:
        bound = "less than or equal to 100" if limit > _MOST else "greater than or equal to 1"
        raise Refusal(
            f"This value must be {bound}.", code="parameter_invalid_integer", param="limit"
        )
    if after:
        found = found.filter(serial__lt=_serial(after))
    bodies = [row.body for row in found.order_by("-serial")[: limit + 1]]
    return whole_list(bodies[:limit], url) | {"has_more": len(bodies) > limit}


def _serial(id: str) -> int:
    row = StripeObject.objects.filter(id=id).only("serial").first()
    if row is None:
        raise missing("object", id, "starting_after")
    return row.serial
