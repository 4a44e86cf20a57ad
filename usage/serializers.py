"""Usage as the API shows it."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from config.api import AnswerSerializer, NumberField, ObjectSerializer, UtcDateTimeField
from usage.models import UsageRecord


class CostBreakdownSerializer(ObjectSerializer):
    """In USD. Twilio's and OpenAI's part are estimates, from dated price data."""

    platformCost = NumberField(help_text="Minutes times `perMinuteRate`.")
    twilioCost = NumberField()
    openaiCost = NumberField()
    totalCost = NumberField(help_text="The sum of the others.")


@extend_schema_field(CostBreakdownSerializer)
class CostBreakdownField(serializers.DictField):
    """``UsageRecord.cost_breakdown``, which is in JSON's types already."""


class UsageRecordSerializer(serializers.ModelSerializer[UsageRecord]):
    callSid = serializers.CharField(source="call_sid")
    callerPhone = serializers.CharField(source="caller_phone")
    calledNumber = serializers.CharField(source="called_number")
    durationSeconds = serializers.IntegerField(source="duration_seconds")
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
    total = serializers.IntegerField(help_text="Of all records.")
    limit = serializers.IntegerField(help_text="As it was served.")
    offset = serializers.IntegerField()


class CallTotalsSerializer(ObjectSerializer):
    calls = serializers.IntegerField()
    minutes = serializers.IntegerField(help_text="Each call rounded up to whole ones.")


class CurrentMonthSerializer(CallTotalsSerializer):
    estimatedCost = NumberField(help_text="Minutes times `perMinuteRate`, without `monthlyBase`.")


class CurrentUsageSerializer(AnswerSerializer):
    currentMonth = CurrentMonthSerializer(help_text="By UTC.")
    allTime = CallTotalsSerializer()
    perMinuteRate = NumberField()
    monthlyBase = NumberField()
