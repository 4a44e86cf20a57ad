"""``/api/deliveries``"""

from __future__ import annotations

from typing import Any

from django.db.models import prefetch_related_objects
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.permissions import IsActiveOrReadOnly
from core.api import (
    AnswerSerializer,
    ObjectSerializer,
    TextField,
    UtcDateTimeField,
    iso,
    page_with_more,
)
from core.schema import PAGE, endpoint
from telephony.api.fields import AnswerFields, OptionalTextField
from telephony.callbacks import outbox
from telephony.models import (
    ATTEMPTS_IN_ORDER,
    CallbackAttempt,
    CallbackDelivery,
    CallbackDeliveryQuerySet,
)


class DeliveryFilterSerializer(ObjectSerializer):
    callId = TextField(
        required=False,
        max_length=25,
        source="call_id",
        help_text="Only callbacks of the call with this `id`.",
    )
    state = serializers.ChoiceField(CallbackDelivery.State.values, required=False)


class AttemptSerializer(AnswerFields, serializers.ModelSerializer[CallbackAttempt]):
    class Meta:
        model = CallbackAttempt
        fields = ["at", "durationMs", "result", "answer"]


class DeliverySerializer(serializers.ModelSerializer[CallbackDelivery]):
    callId = serializers.CharField(source="call_id")
    kind = serializers.ChoiceField(CallbackDelivery.Kind.values)
    state = serializers.ChoiceField(CallbackDelivery.State.values)
    url = serializers.CharField()
    attempts = serializers.IntegerField(help_text="The number of attempts.")
    lastResult = OptionalTextField(
        source="last_result",
        allow_null=True,
        help_text="An HTTP status, or what went wrong; `endpoint_failing` while it is held back.",
    )
    createdAt = UtcDateTimeField(source="created_at")
    endedAt = UtcDateTimeField(
        source="ended_at", allow_null=True, help_text="When it was delivered or given up."
    )
    nextAttemptAt = serializers.SerializerMethodField()
    history = AttemptSerializer(
        source="attempt_list",
        many=True,
        help_text="The attempts of the last 30 days, oldest first.",
    )

    class Meta:
        model = CallbackDelivery
        fields = [
            "id",
            "callId",
            "kind",
            "state",
            "url",
            "attempts",
            "lastResult",
            "createdAt",
            "endedAt",
            "nextAttemptAt",
            "history",
        ]
        read_only_fields = fields

    @extend_schema_field(UtcDateTimeField(allow_null=True))
    def get_nextAttemptAt(self, delivery: CallbackDelivery) -> str | None:
        """Null once it was delivered or given up."""
        return iso(at) if (at := delivery.next_attempt_at) else None


class DeliveriesSerializer(AnswerSerializer):
    deliveries = DeliverySerializer(many=True)
    limit = serializers.IntegerField(help_text="The limit that was applied.")
    offset = serializers.IntegerField()
    hasMore = serializers.BooleanField()


class DeliveryAnswerSerializer(AnswerSerializer):
    delivery = DeliverySerializer()


class DeliveryViewSet(ViewSet):
    permission_classes = [IsActiveOrReadOnly]

    @endpoint(
        "listDeliveries",
        "List the callbacks that are retried until they are delivered: onCallEnd, onError",
        description="The newest first.",
        parameters=[*PAGE, DeliveryFilterSerializer],
        answers={200: DeliveriesSerializer},
    )
    def list(self, request: AccountRequest) -> Response:
        found = _filtered(CallbackDelivery.objects.of(request.user), request)
        in_order = found.with_attempts().order_by("-created_at", "-id")
        page, about = page_with_more(request, in_order)
        return Response({"deliveries": DeliverySerializer(page, many=True).data, **about})

    @endpoint(
        "resendDelivery",
        "Send a callback now instead of at its next attempt",
        description=(
            "If this attempt fails, the schedule continues as before. The body of a callback is "
            "erased once it is delivered or given up. After that it cannot be sent again."
        ),
        answers={202: DeliveryAnswerSerializer},
        errors={409: {"delivery_erased": "It was delivered or given up, and its body was erased."}},
    )
    @action(detail=True, methods=["post"])
    def resend(self, request: AccountRequest, pk: str) -> Response:
        delivery = CallbackDelivery.objects.defer("sealed_body").access(request.user, pk)
        delivery = outbox.resend(delivery)
        prefetch_related_objects([delivery], ATTEMPTS_IN_ORDER)
        return Response({"delivery": DeliverySerializer(delivery).data}, status=202)


def _filtered(
    deliveries: CallbackDeliveryQuerySet, request: AccountRequest
) -> CallbackDeliveryQuerySet:
    serializer = DeliveryFilterSerializer(data=request.query_params.dict())
    serializer.is_valid(raise_exception=True)
    filters: dict[str, Any] = serializer.validated_data
    return deliveries.filter(**filters)
