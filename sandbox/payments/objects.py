"""Creates and changes Stripe's objects, each together with its events."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.db import connection, transaction

from sandbox.payments.bodies import blank
from sandbox.payments.business import clock
from sandbox.payments.events import emit, gathered
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.wire.errors import Refusal, missing

_WRITERS_LOCK: Final = 0x5A9D_B0C5


class _Unchanged:
    """Marks a field that stays unchanged."""


UNCHANGED = _Unchanged()


@contextmanager
def writing() -> Iterator[None]:
    """Make changes inside of this: one transaction at a time.

    Objects and events thus have one order for everybody. A Refusal is raised further, and undoes
    everything unless it keeps its changes.
    """
    kept: Refusal | None = None
    with transaction.atomic(), clock.remembered(), gathered():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_WRITERS_LOCK])
        try:
            yield
        except Refusal as refusal:
            if not refusal.keeps_changes:
                raise
            kept = refusal
    if kept:
        raise kept


@contextmanager
def attempt() -> Iterator[None]:
    """Undo everything inside of this, events included, if it is refused."""
    with transaction.atomic(), gathered():
        yield


def create(
    kind: str,
    *events: str,
    id: str = "",
    customer_id: str = "",
    hidden: dict[str, Any] | None = None,
    due_at: int | None = None,
    **fields: Any,
) -> StripeObject:
    """Create an object with these fields and those common to its kind, and record the event."""
    id = id or new_id(kind)
    head: dict[str, Any] = {"id": id, "object": kind, "created": clock.now(customer_id)}
    if kind != "refund":
        head["livemode"] = False
    made = StripeObject.objects.create(
        id=id,
        kind=kind,
        customer_id=customer_id,
        body=head | blank(kind) | fields,
        hidden=hidden or {},
        due_at=due_at,
    )
    for event in events:
        emit(event, made)
    return made


def change(
    thing: StripeObject,
    *events: str,
    due_at: int | _Unchanged | None = UNCHANGED,
    **changes: Any,
) -> StripeObject:
    """Change these fields, and record the event; ``*.updated`` includes the previous values.

    The stored object is changed field by field, so that a stale copy overwrites nothing.
    """
    thing.refresh_from_db(fields=["body", "due_at"])
    before = copy.deepcopy(thing.body)
    thing.body |= changes
    if not isinstance(due_at, _Unchanged):
        thing.due_at = due_at
    thing.save(update_fields=["body", "due_at"])
    was = previous(before, thing.body)
    for event in events:
        if event.endswith(".updated"):
            if was:
                emit(event, thing, was)
        else:
            emit(event, thing)
    return thing


def previous(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the previous values of changed fields, including nested ones; None if unchanged."""
    was: dict[str, Any] = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict):
                was[name] = previous(old, new)
            else:
                was[name] = old
    return was


def find(kind: str, id: str, param: str = "id") -> StripeObject:
    """Return the object; raise Refusal if it does not exist (any more)."""
    found = StripeObject.objects.of(kind).filter(id=id).first()
    if found is None:
        raise missing(kind, id, param)
    return found


def merged(metadata: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """Return the updated metadata: an empty value removes its key, None removes all keys."""
    if given is None:
        return {}
    return {key: value for key, value in {**metadata, **given}.items() if value != ""}
