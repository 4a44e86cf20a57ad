"""``/api/phone-numbers``"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.permissions import IsActiveOrReadOnly
from core.api import AnswerSerializer, FlagField, ObjectSerializer, UtcDateTimeField, validated
from core.schema import endpoint
from telephony.api.fields import (
    AccountSidField,
    AuthTokenField,
    CallbackUrlField,
    OptionalTextField,
    UsNumberField,
)
from telephony.models import PhoneNumber
from telephony.numbers import phone_number_register, phone_number_remove, phone_number_update
from telephony.twilio_rest import TwilioCredentials


@extend_schema_serializer(component_name="PhoneNumberRegistration")
class RegistrationSerializer(ObjectSerializer):
    phoneNumber = UsNumberField(source="phone_number")
    onCallStartUrl = CallbackUrlField(source="on_call_start_url")
    onCallEndUrl = CallbackUrlField(source="on_call_end_url")
    onErrorUrl = CallbackUrlField(source="on_error_url", required=False, allow_null=True)
    twilioAccountSid = AccountSidField(
        required=False,
        allow_null=True,
        help_text="With `twilioAuthToken`, proves that the number is yours, if that is required. "
        "Both are used and not stored.",
    )
    twilioAuthToken = AuthTokenField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        sid, token = attrs.pop("twilioAccountSid", None), attrs.pop("twilioAuthToken", None)
        if bool(sid) != bool(token):
            missing = "twilioAuthToken" if sid else "twilioAccountSid"
            raise serializers.ValidationError({missing: "Send both, or neither."})
        if sid and token:
            attrs["proof"] = TwilioCredentials(sid, token)
        return attrs


@extend_schema_field({"not": {}, "description": "A number cannot be changed."})
class NumberThatStays(serializers.JSONField):
    """Refuses any value. Ignoring it would suggest that the change worked."""

    def to_internal_value(self, data: Any) -> Any:
        raise serializers.ValidationError("A number cannot be changed. Register the other one.")


@extend_schema_serializer(
    component_name="PhoneNumberChanges",
    description='All fields are optional. `"onErrorUrl": null` removes that URL.',
)
class ChangesSerializer(ObjectSerializer):
    """The fields that can be changed; each is optional. ``"onErrorUrl": null`` removes that URL."""

    phoneNumber = NumberThatStays(required=False)
    onCallStartUrl = CallbackUrlField(source="on_call_start_url", required=False)
    onCallEndUrl = CallbackUrlField(source="on_call_end_url", required=False)
    onErrorUrl = CallbackUrlField(source="on_error_url", required=False, allow_null=True)
    isActive = FlagField(source="is_active", required=False)
    twilioAccountSid = AccountSidField(
        source="twilio_account_sid",
        required=False,
        allow_null=True,
        help_text="The only Twilio account whose calls are accepted. `null` leaves the choice to "
        "the next verified call.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {name: "" if value is None else value for name, value in attrs.items()}


class PhoneNumberSerializer(serializers.ModelSerializer[PhoneNumber]):
    phoneNumber = serializers.CharField(source="phone_number")
    onCallStartUrl = serializers.CharField(source="on_call_start_url")
    onCallEndUrl = serializers.CharField(source="on_call_end_url")
    onErrorUrl = OptionalTextField(source="on_error_url", allow_null=True)
    isActive = serializers.BooleanField(source="is_active")
    createdAt = UtcDateTimeField(source="created_at")

    class Meta:
        model = PhoneNumber
        fields = [
            "id",
            "phoneNumber",
            "onCallStartUrl",
            "onCallEndUrl",
            "onErrorUrl",
            "isActive",
            "createdAt",
        ]


class PhoneNumberDetailSerializer(PhoneNumberSerializer):
    twilioAccountSid = OptionalTextField(
        source="twilio_account_sid",
        allow_null=True,
        help_text="The Twilio account that its calls come from. Null until one is verified.",
    )
    refusedTwilioAccountSid = OptionalTextField(
        source="refused_account_sid",
        allow_null=True,
        help_text="The last other Twilio account that a call came from. The call was refused.",
    )

    class Meta(PhoneNumberSerializer.Meta):
        fields = [
            *PhoneNumberSerializer.Meta.fields,
            "twilioAccountSid",
            "refusedTwilioAccountSid",
        ]


class PhoneNumberAnswerSerializer(AnswerSerializer):
    phoneNumber = PhoneNumberSerializer()


class PhoneNumberDetailAnswerSerializer(AnswerSerializer):
    phoneNumber = PhoneNumberDetailSerializer()


class PhoneNumbersSerializer(AnswerSerializer):
    phoneNumbers = PhoneNumberSerializer(many=True)


class DeletedSerializer(AnswerSerializer):
    deleted = serializers.BooleanField()


class PhoneNumberViewSet(ViewSet):
    permission_classes = [IsActiveOrReadOnly]

    @endpoint("listPhoneNumbers", "List your numbers", answers={200: PhoneNumbersSerializer})
    def list(self, request: AccountRequest) -> Response:
        numbers = PhoneNumber.objects.of(request.user).order_by("created_at", "id")
        return Response({"phoneNumbers": PhoneNumberSerializer(numbers, many=True).data})

    @endpoint(
        "registerPhoneNumber",
        "Register a number and the URLs for its callbacks",
        description="201 for a new number; 200 for one of yours, which gets the new URLs.",
        request=RegistrationSerializer,
        answers={200: PhoneNumberAnswerSerializer, 201: PhoneNumberAnswerSerializer},
        errors={
            400: {
                "country_not_allowed": "It is not a US number.",
                "number_not_allowed": (
                    "It is not a landline, mobile or toll-free number, but for example a "
                    "premium-rate or service number."
                ),
                "phone_number_not_proven": "The number does not belong to that Twilio account.",
            },
            409: {
                "phone_number_taken": "Another account has registered the number.",
                "phone_number_resting": (
                    "Another account had the number until recently. Send `twilioAccountSid` and "
                    "`twilioAuthToken` to prove that it is yours, or wait."
                ),
            },
            502: {"carrier_unavailable": "Twilio could not be asked whether the number is yours."},
        },
    )
    def create(self, request: AccountRequest) -> Response:
        """Respond with 201 for a new number, or 200 for one that the account had already."""
        number, is_new = phone_number_register(
            account=request.user, **validated(RegistrationSerializer, request)
        )
        return _one(number, status=201 if is_new else 200)

    @endpoint(
        "getPhoneNumber",
        "See a number, and which Twilio account its calls come from",
        answers={200: PhoneNumberDetailAnswerSerializer},
    )
    def retrieve(self, request: AccountRequest, pk: str) -> Response:
        return _detail(PhoneNumber.objects.access(request.user, pk))

    @endpoint(
        "updatePhoneNumber",
        "Change a number's URLs, confirm its Twilio account, or switch it off",
        request=ChangesSerializer,
        answers={200: PhoneNumberDetailAnswerSerializer},
    )
    def partial_update(self, request: AccountRequest, pk: str) -> Response:
        changes = validated(ChangesSerializer, request)
        return _detail(phone_number_update(account=request.user, id=pk, **changes))

    @endpoint(
        "removePhoneNumber",
        "Remove a number",
        description="Its calls and their usage stay.",
        answers={200: DeletedSerializer},
    )
    def destroy(self, request: AccountRequest, pk: str) -> Response:
        phone_number_remove(account=request.user, id=pk)
        return Response({"deleted": True})


def _detail(number: PhoneNumber) -> Response:
    return Response({"phoneNumber": PhoneNumberDetailSerializer(number).data})


def _one(number: PhoneNumber, *, status: int = 200) -> Response:
    return Response({"phoneNumber": PhoneNumberSerializer(number).data}, status=status)
