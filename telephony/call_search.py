"""Search in an account's calls, by any combination of conditions.

Each condition has an index in the list's order, so that its first page costs the same however long
the history is. A combination uses one of these indexes and filters the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import F

from accounts.models import Account
from core.ids import is_id
from core.keyset import BY_TIME, Order
from telephony.models import Call, CallQuerySet, MetadataValue
from telephony.numbering import parse_number
from telephony.twilio_rest import CALL_SID

# Of a call's metadata, the first values can be found, if they are short enough.
MOST_VALUES = 20
LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a call must match; "" and None match every call.

    ``number`` is the account's own number, ``other_number`` the caller's or callee's. ``since`` is
    inclusive, ``until`` exclusive.
    """

    id: str = ""
    call_sid: str = ""
    number: str = ""
    other_number: str = ""
    metadata: str = ""
    direction: str = ""
    outcome: str = ""
    error_code: str = ""
    is_live: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Calls, and the columns by which an index lists them."""

    calls: CallQuerySet
    by: Order = BY_TIME


def search(text: str) -> Conditions:
    """Return the condition that a text typed in a search box means."""
    if CALL_SID.fullmatch(text):
        return Conditions(call_sid=text)
    if is_id(text):
        return Conditions(id=text)
    if number := parse_number(text):
        return Conditions(other_number=number)
    return Conditions(metadata=text)


def calls_found(account: Account, conditions: Conditions) -> Found:
    calls, by = Call.objects.of(account), BY_TIME
    if conditions.metadata:
        calls, by = _with_value(account, calls, conditions.metadata), ("listed_at", "listed_id")
    if conditions.since:
        calls = calls.filter(**{f"{by[0]}__gte": conditions.since})
    if conditions.until:
        calls = calls.filter(**{f"{by[0]}__lt": conditions.until})
    if conditions.number:
        calls = calls.with_number(conditions.number)
    if conditions.other_number:
        calls = calls.with_other_number(conditions.other_number)
    if conditions.outcome:
        calls = calls.that_came_out(conditions.outcome)
    if conditions.is_live is not None:
        calls = calls.filter(ended_at__isnull=conditions.is_live)
    exact = {
        "pk": conditions.id,
        "call_sid": conditions.call_sid,
        "direction": conditions.direction,
        "error_code": conditions.error_code,
    }
    return Found(calls.filter(**{name: value for name, value in exact.items() if value}), by)


def _with_value(account: Account, calls: CallQuerySet, value: str) -> CallQuerySet:
    """Return the calls whose metadata has the value, to be listed as the values' index lists them.

    One ``filter`` and aliases: another ``filter`` over the relation would join it once more.
    """
    found = calls.filter(metadata_values__account=account, metadata_values__value=value)
    return found.alias(
        listed_at=F("metadata_values__created_at"), listed_id=F("metadata_values__call_id")
    )


def metadata_set(call: Call, metadata: Any) -> None:
    """Set a call's metadata, unsaved, and store the values by which the call can be found."""
    if call.metadata not in (None, metadata):
        MetadataValue.objects.filter(call=call).delete()
    call.metadata = metadata
    metadata_index(call)


def metadata_index(call: Call) -> None:
    """Store the values of the call's metadata, so that the call can be found by them."""
    values = dict.fromkeys(islice(_values(call.metadata), MOST_VALUES))
    MetadataValue.objects.bulk_create(
        (
            MetadataValue(
                account_id=call.account_id, call=call, created_at=call.created_at, value=value
            )
            for value in values
        ),
        ignore_conflicts=True,
    )


def _values(metadata: Any) -> Iterator[str]:
    """Yield the strings and numbers in metadata, at any depth, as a person would type them."""
    match metadata:
        case dict():
            for each in metadata.values():
                yield from _values(each)
        case list():
            for each in metadata:
                yield from _values(each)
        case str():
            if metadata and len(metadata) <= LONGEST_VALUE:
                yield metadata
        case int() | float() if not isinstance(metadata, bool):
            if len(text := json.dumps(metadata)) <= LONGEST_VALUE:
                yield text
