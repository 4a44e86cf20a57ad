"""``/api/outbound``"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema_serializer
from rest_framework import serializers
from rest_framework.fields import Field
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.permissions import IsActive
from core.api import (
    AnswerSerializer,
    ObjectSerializer,
    WholeNumberField,
    validated,
)
from core.errors import refusal_body
from core.schema import endpoint
from telephony.api.fields import (
    AccountSidField,
    AuthTokenField,
    CallbackUrlField,
    E164Field,
    MetadataField,
    UsNumberField,
)
from telephony.idempotency import (
    HEADER,
    REPLAYED_HEADER,
    Answer,
    keep_answer,
    kept_answer,
    request_key,
)
from telephony.models import Call
from telephony.outbound import (
    DEFAULT_TIMEOUT_SECONDS,
    Dialing,
    NotPlaced,
    outbound_call_dial,
    outbound_call_outcome,
    outbound_call_queue,
)
from telephony.twilio_rest import TwilioCredentials


@extend_schema_serializer(component_name="OutboundCall")
class OutboundSerializer(ObjectSerializer):
    to = E164Field()
    from_number = UsNumberField()  # `from` in the API, which is a keyword in Python
    onCallStartUrl = CallbackUrlField(source="on_call_start_url")
    onCallEndUrl = CallbackUrlField(source="on_call_end_url")
    onErrorUrl = CallbackUrlField(source="on_error_url", required=False, allow_null=True)
    twilioAccountSid = AccountSidField()
    twilioAuthToken = AuthTokenField()
    metadata = MetadataField(required=False, allow_null=True)
    machineDetection = serializers.ChoiceField(
        ["Enable", "DetectMessageEnd"],
        source="machine_detection",
        required=False,
        allow_null=True,
        error_messages={"invalid_choice": "Use Enable or DetectMessageEnd."},
    )
    timeout = WholeNumberField(
        min_value=5,
        max_value=120,
        default=DEFAULT_TIMEOUT_SECONDS,
        allow_null=True,
        help_text="How long the phone may ring, in seconds.",
    )

    def get_fields(self) -> dict[str, Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        fields["from"] = fields.pop("from_number")
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs["from_number"] = attrs.pop("from")
        attrs["dialing"] = Dialing(
            TwilioCredentials(attrs.pop("twilioAccountSid"), attrs.pop("twilioAuthToken")),
            timeout=attrs.pop("timeout") or DEFAULT_TIMEOUT_SECONDS,
            machine_detection=attrs.pop("machine_detection", None) or "",
        )
        return attrs


class QueuedCallSerializer(AnswerSerializer):
    id = serializers.CharField()
    callSid = serializers.CharField(help_text="Twilio's identifier of the call.")
    status = serializers.ChoiceField(["queued"])


IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "header",
    description=(
        "Makes it safe to retry the request: for 24 hours, the same key and body get the first "
        "response again, and only one call is placed."
    ),
)
IDEMPOTENT_REPLAYED = OpenApiParameter(
    REPLAYED_HEADER,
    {"const": "true"},
    "header",
    response=[201, 400, 502],
    description="The response is that of an earlier request with the same `Idempotency-Key`.",
)


class OutboundViewSet(ViewSet):
    permission_classes = [IsActive]

    @endpoint(
        "placeCall",
        "Place a call",
        description=(
            "The call is placed from one of your numbers, through your own Twilio account. The "
            "credentials are used and not stored. When the callee answers, Switchhook asks "
            "`onCallStartUrl` what to do."
        ),
        request=OutboundSerializer,
        parameters=[IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED],
        answers={201: QueuedCallSerializer},
        errors={
            400: {
                "country_not_allowed": "Numbers in that country may not be called.",
                "number_not_allowed": (
                    "`to` or `from` is not a landline, mobile or toll-free number, but for example "
                    "a premium-rate or service number."
                ),
                "same_number": "`to` is `from`.",
                "carrier_rejected": "Twilio refused the call: `error` has its code and message.",
            },
            402: {
                "spending_limit_reached": (
                    "The account has reached its spending limit for this month. Raise it, or wait "
                    "for next month."
                )
            },
            403: {"phone_number_not_owned": "`from` is not an active number of the account."},
            409: {
                "idempotency_key_reused": "The key was used with a different body.",
                "idempotency_key_in_use": "The first request with the key is still running.",
            },
            429: {"too_many_calls": "The account has reached its limit of concurrent calls."},
            502: {
                "carrier_unavailable": (
                    "Twilio did not respond. `error` says whether it may have placed the call."
                )
            },
        },
    )
    def create(self, request: AccountRequest) -> Response:
        order = validated(OutboundSerializer, request)
        dialing, key = order.pop("dialing"), request_key(request)
        # Look up the key, and record the call under it: one transaction.
        call, earlier = outbound_call_queue(account=request.user, request_key=key, **order)
        if earlier and (kept := kept_answer(earlier)):
            return _response(kept, is_replay=True)
        # Place the call, or find out the state of one whose request got no response.
        try:
            call = outbound_call_outcome(call) if earlier else outbound_call_dial(call, dialing)
            answer = Answer(201, _queued(call))
        except NotPlaced as refusal:
            answer = Answer(refusal.status_code, refusal_body(refusal, request))
        # Store the response.
        if key:
            answer = keep_answer(call, answer)
        return _response(answer, is_replay=earlier is not None)


def _response(answer: Answer, *, is_replay: bool) -> Response:
    headers = {REPLAYED_HEADER: "true"} if is_replay else None
    return Response(answer.body, answer.status, headers=headers)


def _queued(call: Call) -> dict[str, Any]:
    """Return the response once Twilio has accepted a call, whatever its status is by now."""
    return {"id": call.id, "callSid": call.call_sid, "status": Call.Status.QUEUED}
