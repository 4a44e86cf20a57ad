"""Metering problems for operators, and Stripe's error reports of the meter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from billing.models import MeterEvent, MeterProblem
from billing.stripe_api import asking, client
from core.queue.jobs import defer

log = structlog.get_logger(__name__)

READ_TASK = "billing.metering.tasks.read_error_report"

# Stripe identifies a request by its idempotency key, which begins with our identifier.
_IDENTIFIER = re.compile(r"CA[0-9a-f]{32}(?:\.[0-9]+)?")


@transaction.atomic
def problem_note(
    *, kind: str, key: str, account_id: str | None = None, detail: dict[str, Any]
) -> None:
    """Report a problem to an operator, or update a known one.

    A resolved problem stays resolved while nothing about it changes.
    """
    problem, _ = MeterProblem.objects.select_for_update().get_or_create(
        key=key, defaults={"kind": kind, "account_id": account_id, "detail": detail}
    )
    if problem.detail != detail:
        problem.detail, problem.resolved_at = detail, None
        problem.save(update_fields=["detail", "resolved_at"])
    if problem.resolved_at is None:
        log.error("meter_problem", kind=kind, problem=key, account_id=account_id, detail=detail)


def problem_resolve(*, key: str, detail: dict[str, Any] | None = None) -> bool:
    """Mark a problem as resolved, with its new detail; return False if there was none."""
    found = MeterProblem.objects.filter(key=key, resolved_at=None)
    why = {} if detail is None else {"detail": detail}
    return bool(found.update(resolved_at=timezone.now(), **why))


@transaction.atomic
def error_report(event_id: str) -> None:
    """Record that Stripe could not count some of our events; a job finds out which.

    The id is that of a verified thin event, ``v1.billing.meter.error_report_triggered``, which
    contains nothing else.
    """
    _, is_new = MeterProblem.objects.get_or_create(
        key=event_id, defaults={"kind": MeterProblem.Kind.ERROR_REPORT}
    )
    if is_new:
        log.error("meter_error_report", event_id=event_id)
        defer(READ_TASK, event_id=event_id)


def error_report_read(event_id: str) -> None:
    """Fetch a report from Stripe, and mark the events that it names as rejected.

    It names only some of them. Raises 502 ``payments_unavailable``.
    """
    with asking():
        data = client().v2.core.events.retrieve(event_id).to_dict()["data"]
    errors = [_error(error) for error in data["reason"]["error_types"]]
    detail = {
        "summary": data.get("developer_message_summary", ""),
        "from": data["validation_start"],
        "to": data["validation_end"],
        "errors": errors,
    }
    with transaction.atomic():
        for error in errors:
            _not_counted(error)
        problem_note(kind=MeterProblem.Kind.ERROR_REPORT, key=event_id, detail=detail)


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    samples = error["sample_errors"]
    named = (_IDENTIFIER.match(sample["request"]["identifier"]) for sample in samples)
    return {
        "code": error["code"],
        "count": error["error_count"],
        "message": samples[0]["error_message"] if samples else "",
        "identifiers": [match[0] for match in named if match],
    }


def _not_counted(error: Mapping[str, Any]) -> None:
    MeterEvent.objects.filter(identifier__in=error["identifiers"]).update(
        state=MeterEvent.State.REFUSED, last_error=f"{error['code']}: {error['message']}"[:500]
    )
