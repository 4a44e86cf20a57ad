"""The pages and API requests that ``bin/bench pages`` measures.

Paths depend on the account: on its number, its newest call and its median call by age.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

from accounts.models import Account
from sandbox.filling import COMMON_VALUE
from telephony.models import Call

_PAGE = 100  # the most that the API serves
_LIST = "/dashboard/calls"
_BACKEND = "https://backend.example"  # which all made-up callbacks went to
_CALLBACKS = {
    "": {},
    " that were given up": {"state": "given-up"},
    " that fail": {"state": "failing"},
    " of an endpoint": {"endpoint": _BACKEND},
    " of onError": {"kind": "onError"},
    " with all filters": {"endpoint": _BACKEND, "state": "waiting", "kind": "onError"},
}
_UNKNOWN = "+12025550100"


def places_of(account: Account) -> dict[str, str]:
    """Return the path of each, by name; the account needs calls and a number."""
    calls = Call.objects.of(account).order_by("-created_at", "-id")
    count = calls.count()
    newest, middle = calls[0], calls[count // 2]
    return {
        "overview": "/dashboard",
        "calls in progress": "/dashboard/live",
        **_call_pages(account, newest, middle),
        **{
            f"callbacks{name}": f"/dashboard/callbacks?{urlencode(query)}"
            for name, query in _CALLBACKS.items()
        },
        "test call": "/dashboard/test-call",
        "numbers": "/dashboard/numbers",
        "numbers that match": "/dashboard/numbers?q=555",
        "API keys": "/dashboard/keys",
        "billing": "/dashboard/billing",
        "settings": "/dashboard/settings",
        "activity": "/dashboard/settings/activity",
        **_api(newest, middle, calls=count, records=account.total_usage.calls),
    }


def _call_pages(account: Account, newest: Call, middle: Call) -> dict[str, str]:
    number = account.phone_numbers.order_by("phone_number")[0].phone_number
    place = f"{round(middle.created_at.timestamp() * 1_000_000)}-{middle.id}"
    month = {
        "since": f"{middle.created_at:%Y-%m-%d}",
        "until": f"{middle.created_at + timedelta(days=30):%Y-%m-%d}",
    }
    filters = {
        "from the middle": {"after": place},
        "of a number": {"number": number},
        "of a number without calls": {"number": _UNKNOWN},
        "outbound": {"direction": "outbound"},
        "failed": {"outcome": "failed"},
        "failed, from the middle": {"outcome": "failed", "after": place},
        "of a month": month,
        "of a caller": {"q": middle.caller_phone},
        "of a caller unknown": {"q": _UNKNOWN},
        "with a CallSid": {"q": middle.call_sid or ""},
        "with metadata of all": {"q": COMMON_VALUE},
        "with metadata of all, from the middle": {"q": COMMON_VALUE, "after": place},
        "with metadata of none": {"q": "nothing has this"},
        "with an error code": {"code": "tool_failed"},
        "with all filters": {
            "number": number,
            "direction": "inbound",
            "outcome": "rejected",
            **month,
        },
    }
    return {
        "calls": _LIST,
        **{f"calls {name}": f"{_LIST}?{urlencode(query)}" for name, query in filters.items()},
        "the newest call": f"{_LIST}/{newest.id}",
        "the call in the middle": f"{_LIST}/{middle.id}",
    }


def _api(newest: Call, middle: Call, *, calls: int, records: int) -> dict[str, str]:
    since = urlencode({"since": middle.created_at.isoformat()})
    return {
        "API: calls": f"/api/calls?limit={_PAGE}",
        "API: calls, the last page": f"/api/calls?limit={_PAGE}&offset={max(calls - _PAGE, 0)}",
        "API: calls in progress": f"/api/calls?limit={_PAGE}&live=true",
        "API: calls since the middle": f"/api/calls?limit={_PAGE}&{since}",
        "API: calls with metadata": f"/api/calls?limit={_PAGE}&metadata={COMMON_VALUE}",
        "API: calls with an error code": f"/api/calls?limit={_PAGE}&errorCode=tool_failed",
        "API: usage": f"/api/usage?limit={_PAGE}",
        "API: usage, the last page": f"/api/usage?limit={_PAGE}&offset={max(records - _PAGE, 0)}",
        "API: the newest call": f"/api/calls/{newest.id}",
        "API: usage/current": "/api/usage/current",
    }
