"""Serializers of usage."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api import (
    AnswerSerializer,
    NumberField,
    ObjectSerializer,
    UtcDateTimeField,
    as_number,
)
from usage.models import UsageRecord
from usage.spending import LEAST_LIMIT, MOST_LIMIT, Spending


class CostBreakdownSerializer(ObjectSerializer):
    """In USD. Twilio's and OpenAI's costs are estimates from published prices."""

    platformCost = NumberField(
        help_text="Minutes times `perMinuteRate`. Minutes count from when the model is ready, so a "
        "call whose model never starts has none."
    )
    twilioCost = NumberField()
    openaiCost = NumberField()
    totalCost = NumberField(help_text="The sum of the others.")


@extend_schema_field(CostBreakdownSerializer)
class CostBreakdownField(serializers.DictField):
    """``UsageRecord.cost_breakdown``, which has JSON types already."""


class UsageRecordSerializer(serializers.ModelSerializer[UsageRecord]):
    callSid = serializers.CharField(source="call_sid")
    callerPhone = serializers.CharField(source="caller_phone")
    calledNumber = serializers.CharField(source="called_number")
    durationSeconds = serializers.IntegerField(
        source="duration_seconds", help_text="How long the caller's audio was connected."
    )
    costBreakdown = CostBreakdownField(source="cost_breakdown")
    createdAt = UtcDateTimeField(source="created_at")

    class Meta:
        model = UsageRecord
        fields = [
            "id",
            "callSid",
            "callerPhone",
            "calledNumber",
            "durationSeconds",
            "costBreakdown",
            "createdAt",
        ]


class UsagePageSerializer(AnswerSerializer):
    records = UsageRecordSerializer(many=True)
    total = serializers.IntegerField(help_text="The number of all records.")
    limit = serializers.IntegerField(help_text="The limit that was applied.")
    offset = serializers.IntegerField()


class CallTotalsSerializer(ObjectSerializer):
    calls = serializers.IntegerField()
    minutes = serializers.IntegerField(help_text="Each call is rounded up to whole minutes.")


class CurrentMonthSerializer(CallTotalsSerializer):
    estimatedCost = NumberField(help_text="Minutes times `perMinuteRate`, without `monthlyBase`.")


class CurrentUsageSerializer(AnswerSerializer):
    currentMonth = CurrentMonthSerializer(help_text="The current month (UTC).")
    allTime = CallTotalsSerializer()
    perMinuteRate = NumberField()
    monthlyBase = NumberField()


# More than a limit has: DRF fails on numbers with hundreds of digits.
MOST_DIGITS = 20


@extend_schema_field({"type": "number", "minimum": float(LEAST_LIMIT), "maximum": int(MOST_LIMIT)})
class LimitField(serializers.DecimalField):
    """USD, as a JSON number of whole cents, not as a string."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_digits=MOST_DIGITS,
            decimal_places=2,
            min_value=LEAST_LIMIT,
            max_value=MOST_LIMIT,
            error_messages={
                "max_decimal_places": "Use whole cents.",
                "max_digits": f"Use whole cents, from {LEAST_LIMIT} to {MOST_LIMIT}.",
                "min_value": f"Use at least {LEAST_LIMIT}, or null for no limit.",
            },
            **kwargs,
        )

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        """Reject strings: Django REST framework would read an empty one as null."""
        if isinstance(data, str):
            self.fail("invalid")
        return super().validate_empty_values(data)


class SpendingLimitSerializer(ObjectSerializer):
    monthlyLimit = LimitField(
        source="amount",
        allow_null=True,
        help_text="In USD, with at most two decimals. Null for no limit.",
    )


class SpendingSerializer(AnswerSerializer):
    monthlyLimit = NumberField(allow_null=True, help_text="In USD. Null if there is no limit.")
    currentMonthSpent = NumberField(
        help_text="Minutes times `perMinuteRate`, of calls that ended this month (UTC)."
    )
    isReached = serializers.BooleanField(help_text="True if new calls are rejected.")


def spending_body(spending: Spending) -> dict[str, Any]:
    """Return an account's spending in the shape of :class:`SpendingSerializer`."""
    return {
        "monthlyLimit": None if spending.limit is None else as_number(spending.limit),
        "currentMonthSpent": as_number(spending.spent),
        "isReached": spending.is_reached,
    }
