"""Usage as the API shows it."""

from __future__ import annotations

from rest_framework import serializers

from config.api import UtcDateTimeField
from usage.models import UsageRecord


class UsageRecordSerializer(serializers.ModelSerializer[UsageRecord]):
    callSid = serializers.CharField(source="call_sid")
    callerPhone = serializers.CharField(source="caller_phone")
    calledNumber = serializers.CharField(source="called_number")
    durationSeconds = serializers.IntegerField(source="duration_seconds")
    costBreakdown = serializers.DictField(source="cost_breakdown")
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
