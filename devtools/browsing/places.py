"""Every page, and who sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Someone who is not signed in; a customer who has just signed up; one who has paid and has calls;
# an operator who has entered only the password; one who has entered the second factor too.
Who = Literal["visitor", "newcomer", "customer", "halfway", "operator"]

SECTIONS = {
    "overview": "/dashboard",
    "calls": "/dashboard/calls",
    "callbacks": "/dashboard/callbacks",
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
    "docs-models": "/docs/models",
    "docs-callbacks": "/docs/callbacks",
    "docs-reasons-and-errors": "/docs/reasons-and-errors",
    "docs-sandbox": "/docs/sandbox",
    "docs-security": "/docs/security",
    "docs-production": "/docs/production",
    "docs-environment-variables": "/docs/environment-variables",
    "docs-operations": "/docs/operations",
    "docs-monitoring": "/docs/monitoring",
    "docs-backup": "/docs/backup",
    "docs-performance": "/docs/performance",
    "docs-capacity": "/docs/capacity",
    "docs-licences": "/docs/licences",
    "docs-api": "/docs/api",
    "checkout-paid": "/billing/checkout/paid",
    "checkout-left": "/billing/checkout/left",
    "portal-left": "/billing/portal/left",
    "account-deleted": "/account-deleted",
    "sandbox-mail": "/sandbox/mail/",
    "sandbox-payments": "/sandbox/payments/",
}
# Invalid or expired links from emails.
_OUTDATED = {
    "set-password-outdated": "/password/reset/nobody/nothing",
    "confirm-email-outdated": "/email/confirm/nothing",
}
_CUSTOMERS = {
    "activity": "/dashboard/settings/activity",
    "notifications": "/dashboard/settings/notifications",
    "number-new": "/dashboard/numbers/new",
    "numbers-connect": "/dashboard/numbers/connect",
    "numbers-found": "/dashboard/numbers?q=555",
    "numbers-not-found": "/dashboard/numbers?q=nothing",
    "number": "/dashboard/numbers/{number}",
    "call": "/dashboard/calls/{call}",
    "call-failed": "/dashboard/calls/{failed_call}",
    "call-rejected": "/dashboard/calls/{rejected_call}",
    "second-factor": "/dashboard/settings/second-factor",
    "second-factor-app": "/dashboard/settings/second-factor/app",
    "docs-signed-in": "/docs/getting-started",
}
_HALFWAY = {
    "second-step": "/login/second-factor",
    "sudo": "/dashboard/settings/second-factor/app",
}
# Pages of Django's admin.
_ADMIN = {
    "operations-accounts": "/admin/accounts/account/",
    "operations-account": "/admin/accounts/account/{account}/change/",
    "operations-calls": "/admin/telephony/call/",
    "operations-call": "/admin/telephony/call/{call}/change/",
    "operations-callbacks": "/admin/telephony/callbackdelivery/",
    "operations-numbers": "/admin/telephony/phonenumber/",
    "operations-audit-log": "/admin/accounts/auditevent/",
    "operations-meter-events": "/admin/billing/meterevent/",
    "operations-processes": "/admin/telephony/process/",
    "operations-incidents": "/admin/operations/incident/",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A page, and who sees it.

    ``name`` is a valid file name; ``path`` may contain ids, as in ``/{call}``; ``allowed`` occurs
    in the browser's messages that are accepted; unless ``is_ours``, a library wrote the markup.
    """

    name: str
    path: str
    who: Who
    allowed: str = "nothing"
    is_ours: bool = True


PLACES = [
    *(Place(name, path, "visitor") for name, path in PUBLIC.items()),
    Place("not-found", "/there-is-no-such-page", "visitor", allowed="404 (Not Found)"),
    *(Place(name, path, "visitor", allowed="status of 4") for name, path in _OUTDATED.items()),
    *(Place(f"{name}-empty", path, "newcomer") for name, path in SECTIONS.items()),
    *(Place(name, path, "customer") for name, path in (SECTIONS | _CUSTOMERS).items()),
    *(Place(name, path, "halfway") for name, path in _HALFWAY.items()),
    Place("operations", "/admin/", "operator"),
    Place("second-factor-on", "/dashboard/settings/second-factor", "operator"),
    Place("impersonate", "/operators/impersonate/{account}", "operator"),
    *(Place(name, path, "operator", is_ours=False) for name, path in _ADMIN.items()),
]
