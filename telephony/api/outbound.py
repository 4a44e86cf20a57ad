"""``/api/outbound``"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rest_framework import serializers
from rest_framework.fields import Field
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.permissions import IsActive
from config.api import ObjectSerializer, TextField, validated
from config.errors import exception_handler
from telephony.api.fields import CallbackUrlField, E164Field, MetadataField, UsNumberField
from telephony.idempotency import Answer, answer_once, request_key
from telephony.models import Call
from telephony.outbound import NotPlaced, outbound_call_outcome, outbound_call_place
from telephony.twilio_rest import ACCOUNT_SID, TwilioCredentials


class OutboundSerializer(ObjectSerializer):
    to = E164Field()
    from_number = UsNumberField()  # `from` in the API, which Python does not let stand here
    onCallStartUrl = CallbackUrlField(source="on_call_start_url")
    onCallEndUrl = CallbackUrlField(source="on_call_end_url")
    onErrorUrl = CallbackUrlField(source="on_error_url", required=False, allow_null=True)
    twilioAccountSid = TextField()
    twilioAuthToken = TextField(max_length=200)
    metadata = MetadataField(required=False, allow_null=True)
    machineDetection = serializers.ChoiceField(
        ["Enable", "DetectMessageEnd"],
        source="machine_detection",
        required=False,
        allow_null=True,
        error_messages={"invalid_choice": "Use Enable or DetectMessageEnd."},
    )
    timeout = serializers.IntegerField(min_value=5, max_value=120, required=False, allow_null=True)

    def get_fields(self) -> dict[str, Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        fields["from"] = fields.pop("from_number")
        return fields

    def validate_twilioAccountSid(self, value: str) -> str:
        if not ACCOUNT_SID.fullmatch(value):
            raise serializers.ValidationError("Use the Account SID: AC and 32 hex digits.")
        return value

    def validate_twilioAuthToken(self, value: str) -> str:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise serializers.ValidationError("Use the auth token as Twilio shows it.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs["from_number"] = attrs.pop("from")
        attrs["credentials"] = TwilioCredentials(
            attrs.pop("twilioAccountSid"), attrs.pop("twilioAuthToken")
        )
        return attrs


class OutboundViewSet(ViewSet):
    permission_classes = [IsActive]

    def create(self, request: AccountRequest) -> Response:
        order = validated(OutboundSerializer, request)
        key = request_key(request)
        place = partial(outbound_call_place, account=request.user, request_key=key, **order)
        if key is None:
            return Response(_queued(place()), status=201)
        return answer_once(
            key,
            act=lambda: _answer(request, place),
            recover=lambda call: _answer(request, partial(outbound_call_outcome, call)),
        )


def _answer(request: AccountRequest, outcome: Callable[[], Call]) -> Answer:
    try:
        call = outcome()
    except NotPlaced as refusal:
        response = exception_handler(refusal, {"request": request})
        return Answer(refusal.call, response.status_code, response.data)
    return Answer(call, 201, _queued(call))


def _queued(call: Call) -> dict[str, Any]:
    """Return what is answered as soon as Twilio has taken a call, whatever became of it later."""
    return {"id": call.id, "callSid": call.call_sid, "status": Call.Status.QUEUED}
