"""``/api/calls``

A list is one page of the account's calls by time, or those that are on: both are read from an
index. There is no filter that would have to look through the history for matches.
"""

from __future__ import annotations

from datetime import UTC

from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.models import Account
from accounts.permissions import IsActiveOrReadOnly
from config.api import ObjectSerializer, UtcDateTimeField, page_of
from telephony.api.fields import MetadataField, OptionalTextField
from telephony.hangup import call_request_hangup
from telephony.models import Call, CallbackDelivery, CallEvent
from telephony.twilio_rest import CALL_SID
from usage.models import UsageRecord


class FilterSerializer(ObjectSerializer):
    since = serializers.DateTimeField(required=False, default_timezone=UTC)
    live = serializers.BooleanField(required=False)


class CallSerializer(serializers.ModelSerializer[Call]):
    callSid = serializers.CharField(source="call_sid")
    callerPhone = serializers.CharField(source="caller_phone")
    calledNumber = serializers.CharField(source="called_number")
    answeredBy = OptionalTextField(source="answered_by")
    endedReason = OptionalTextField(source="ended_reason")
    metadata = MetadataField()
    createdAt = UtcDateTimeField(source="created_at")
    answeredAt = UtcDateTimeField(source="answered_at")
    endedAt = UtcDateTimeField(source="ended_at")
    durationSeconds = serializers.IntegerField(source="duration_seconds")

    class Meta:
        model = Call
        fields = [
            "id",
            "callSid",
            "direction",
            "status",
            "callerPhone",
            "calledNumber",
            "answeredBy",
            "endedReason",
            "metadata",
            "createdAt",
            "answeredAt",
            "endedAt",
            "durationSeconds",
        ]


class CallEventSerializer(serializers.ModelSerializer[CallEvent]):
    at = UtcDateTimeField()

    class Meta:
        model = CallEvent
        fields = ["at", "kind", "detail"]


class CallbackSerializer(serializers.ModelSerializer[CallbackDelivery]):
    lastResult = OptionalTextField(source="last_result")
    createdAt = UtcDateTimeField(source="created_at")

    class Meta:
        model = CallbackDelivery
        fields = ["id", "kind", "state", "attempts", "lastResult", "createdAt"]


class CallDetailSerializer(CallSerializer):
    costBreakdown = serializers.SerializerMethodField()
    timeline = CallEventSerializer(source="events", many=True)
    callbacks = CallbackSerializer(many=True)

    class Meta(CallSerializer.Meta):
        fields = [*CallSerializer.Meta.fields, "costBreakdown", "timeline", "callbacks"]

    def get_costBreakdown(self, call: Call) -> dict[str, int | float] | None:
        """Nothing while the call is on, nor for one that nobody took."""
        records = UsageRecord.objects.filter(account_id=call.account_id, call_sid=call.call_sid)
        record = records.first() if call.call_sid else None
        return record.cost_breakdown if record else None


class CallViewSet(ViewSet):
    permission_classes = [IsActiveOrReadOnly]

    def list(self, request: AccountRequest) -> Response:
        limit, offset = page_of(request)
        calls = _filtered(Call.objects.of(request.user), request).order_by("-created_at", "-id")
        page = list(calls[offset : offset + limit + 1])  # one more, to know whether there are more
        return Response(
            {
                "calls": CallSerializer(page[:limit], many=True).data,
                "limit": limit,
                "offset": offset,
                "hasMore": len(page) > limit,
            }
        )

    def retrieve(self, request: AccountRequest, pk: str) -> Response:
        return _one(_access(request.user, pk))

    @action(detail=True, methods=["post"])
    def hangup(self, request: AccountRequest, pk: str) -> Response:
        """202: the call ends within seconds; one that rings, as soon as it is answered."""
        call = _access(request.user, pk)
        return _one(call_request_hangup(call_id=call.id), status=202)


def _filtered(calls: QuerySet[Call], request: AccountRequest) -> QuerySet[Call]:
    serializer = FilterSerializer(data=request.query_params.dict())
    serializer.is_valid(raise_exception=True)
    filters = serializer.validated_data
    if "since" in filters:
        calls = calls.filter(created_at__gte=filters["since"])
    if "live" in filters:
        calls = calls.filter(ended_at__isnull=filters["live"])
    return calls


def _access(account: Account, reference: str) -> Call:
    """Return the account's call, by its id or its CallSid; 404 when there is none."""
    calls = Call.objects.of(account)
    by_sid = CALL_SID.fullmatch(reference) and calls.filter(call_sid=reference).first()
    return by_sid or calls.access(account, reference)


def _one(call: Call, *, status: int = 200) -> Response:
    prefetch_related_objects(
        [call],
        Prefetch("events", CallEvent.objects.order_by("at", "id")),
        Prefetch("callbacks", CallbackDelivery.objects.defer("sealed_body").order_by("created_at")),
    )
    return Response({"call": CallDetailSerializer(call).data}, status=status)
