"""What ending a call writes here."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from django.conf import settings
from django.db import connection
from django.db.transaction import TransactionManagementError

from usage.models import UsageRecord
from usage.spending import spending_tell

# Additions inside the database: calls that end at once wait for each other, and none is lost.
_BUMP_DAY = """
    INSERT INTO usage_dailyusage AS row (account_id, day, calls, minutes)
    VALUES (%(account_id)s, %(day)s, 1, %(minutes)s)
    ON CONFLICT (account_id, day)
    DO UPDATE SET calls = row.calls + 1, minutes = row.minutes + EXCLUDED.minutes
"""
_BUMP_TOTAL = """
    INSERT INTO usage_totalusage AS row (account_id, calls, minutes)
    VALUES (%(account_id)s, 1, %(minutes)s)
    ON CONFLICT (account_id)
    DO UPDATE SET calls = row.calls + 1, minutes = row.minutes + EXCLUDED.minutes
"""


def usage_record_create(
    *,
    account_id: str,
    call_sid: str,
    direction: str,
    caller_phone: str,
    called_number: str,
    duration_seconds: int,
    twilio_cost: Decimal,
    openai_cost: Decimal,
    ended_at: datetime,
) -> UsageRecord:
    """Record an ended call and add it to the account's totals, in the caller's transaction.

    Costs are in USD. The minutes count for the UTC day (and month) in which the call ended. A call
    that is recorded already stays as it is, totals too, and its record is returned. A call that
    reaches a mark of the account's spending limit has a mail queued.
    """
    if not connection.in_atomic_block:
        raise TransactionManagementError("A usage record belongs to the transaction that ends it.")
    minutes = whole_minutes(duration_seconds)
    record = UsageRecord(
        account_id=account_id,
        call_sid=call_sid,
        direction=direction,
        caller_phone=caller_phone,
        called_number=called_number,
        duration_seconds=duration_seconds,
        minutes=minutes,
        platform_cost=minutes * settings.PER_MINUTE_RATE,
        twilio_cost=twilio_cost,
        openai_cost=openai_cost,
        created_at=ended_at,
    )
    UsageRecord.objects.bulk_create([record], ignore_conflicts=True)
    stored = UsageRecord.objects.get(call_sid=call_sid)
    if stored.id == record.id:
        day = ended_at.astimezone(UTC).date()
        _add_to_totals(account_id, day, minutes)
        spending_tell(account_id=account_id, day=day)
    return stored


def whole_minutes(seconds: int) -> int:
    """Return the minutes that are charged: every begun one counts as a whole."""
    return -(-seconds // 60)


def _add_to_totals(account_id: str, day: date, minutes: int) -> None:
    values: dict[str, str | int | date] = {"account_id": account_id, "day": day, "minutes": minutes}
    with connection.cursor() as cursor:
        cursor.execute(_BUMP_DAY, values)
        cursor.execute(_BUMP_TOTAL, values)
