"""Lists, a page at a time."""

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
    """Return a list of the second API's; it has one page here, however long."""
    return {"data": bodies, "next_page_url": None, "previous_page_url": None}


def page_of(params: Params, found: StripeObjectQuerySet, url: str) -> dict[str, Any]:
    """Return the page that was asked for, newest first; raise Refusal."""
    found = _created(found, params.take("created"))
    limit, after, before = _cursors(params)
    if after:
        rows = found.filter(serial__lt=_serial(after, "starting_after")).order_by("-serial")
    elif before:
        rows = found.filter(serial__gt=_serial(before, "ending_before")).order_by("serial")
    else:
        rows = found.order_by("-serial")
    bodies = [row.body for row in rows[: limit + 1]]
    has_more, bodies = len(bodies) > limit, bodies[:limit]
    if before:
        bodies.reverse()
    return {"object": "list", "data": bodies, "has_more": has_more, "url": url}


def page_of_bodies(params: Params, bodies: list[dict[str, Any]], url: str) -> dict[str, Any]:
    """Return a page of what is in no table of its own, in the order that it comes in."""
    limit, after, before = _cursors(params)
    ids = [body["id"] for body in bodies]
    if after:
        start = _place(ids, after, "starting_after") + 1
    elif before:
        end = _place(ids, before, "ending_before")
        return whole_list(bodies[max(0, end - limit) : end], url) | {"has_more": end > limit}
    else:
        start = 0
    page = whole_list(bodies[start : start + limit], url)
    return page | {"has_more": len(bodies) > start + limit}


def _cursors(params: Params) -> tuple[int, str | None, str | None]:
    limit = params.take("limit", _LIMIT)
    after, before = params.take("starting_after"), params.take("ending_before")
    if not 1 <= limit <= _MOST:
        least_or_most = (
            "less than or equal to 100" if limit > _MOST else "greater than or equal to 1"
        )
        raise Refusal(
            f"This value must be {least_or_most}.", code="parameter_invalid_integer", param="limit"
        )
    if after and before:
        raise Refusal(
            "You can only specify one of these parameters: starting_after, ending_before.",
            code="parameters_exclusive",
        )
    return limit, after, before


def _serial(id: str, param: str) -> int:
    row = StripeObject.objects.filter(id=id).only("serial").first()
    if row is None:
        raise missing("object", id, param)
    return row.serial


def _place(ids: list[str], id: str, param: str) -> int:
    if id not in ids:
        raise missing("object", id, param)
    return ids.index(id)


def _created(found: StripeObjectQuerySet, created: Any) -> StripeObjectQuerySet:
    if created is None:
        return found
    if isinstance(created, int):
        return found.filter(body__created=created)
    return found.filter(**{f"body__created__{bound}": at for bound, at in created.items()})
