"""Every page that people see, and who sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Nobody in particular; a customer who has just signed up; one who has paid and has calls; an
# operator.
Who = Literal["visitor", "newcomer", "customer", "operator"]

ROOMS = {
    "overview": "/dashboard",
    "calls": "/dashboard/calls",
    "test-call": "/dashboard/test-call",
    "numbers": "/dashboard/numbers",
    "keys": "/dashboard/keys",
    "billing": "/dashboard/billing",
    "settings": "/dashboard/settings",
}
PUBLIC = {
    "landing": "/",
    "sign-up": "/signup",
    "log-in": "/login",
    "reset-password": "/password/reset",
    "docs": "/docs",
    "docs-getting-started": "/docs/getting-started",
    "docs-call-configuration": "/docs/call-configuration",
    "docs-callbacks": "/docs/callbacks",
    "docs-reasons-and-errors": "/docs/reasons-and-errors",
    "docs-sandbox": "/docs/sandbox",
    "docs-production": "/docs/production",
    "docs-operations": "/docs/operations",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A page as somebody sees it.

    ``name`` is fit for a file; ``allowed`` is in what the browser may say of the page; if it is not
    ours, a library has written its markup.
    """

    name: str
    path: str
    who: Who
    allowed: str = "nothing"
    is_ours: bool = True


def places(call_id: str) -> list[Place]:
    """Return all of them; ``call_id`` is one of the customer's calls."""
    return [
        *(Place(name, path, "visitor") for name, path in PUBLIC.items()),
        Place("docs-api", "/docs/api", "visitor", is_ours=False),
        Place("not-found", "/there-is-no-such-page", "visitor", allowed="404 (Not Found)"),
        *(Place(f"{name}-empty", path, "newcomer") for name, path in ROOMS.items()),
        *(Place(name, path, "customer") for name, path in ROOMS.items()),
        Place("call", f"/dashboard/calls/{call_id}", "customer"),
        Place("docs-signed-in", "/docs/getting-started", "customer"),
        Place("operations", "/admin/", "operator"),
        Place("operations-calls", "/admin/telephony/call/", "operator", is_ours=False),
    ]
