"""``/api/phone-numbers``"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from accounts.permissions import IsActiveOrReadOnly
from core.api import (
    AnswerSerializer,
    FlagField,
    ObjectSerializer,
    TextField,
    UtcDateTimeField,
    validated,
)
from core.schema import endpoint
from telephony.api.fields import (
    AccountSidField,
    AuthTokenField,
    CallbackUrlField,
    OptionalTextField,
    UsNumberField,
)
from telephony.connecting import Consents, OfferedNumber, numbers_at_twilio, phone_number_connect
from telephony.models import LONGEST_NUMBER_NAME, PhoneNumber
from telephony.numbers import phone_number_register, phone_number_remove, phone_number_update
from telephony.twilio_rest import CURSOR, TwilioCredentials


@extend_schema_serializer(component_name="PhoneNumberRegistration")
class RegistrationSerializer(ObjectSerializer):
    phoneNumber = UsNumberField(source="phone_number")
    onCallStartUrl = CallbackUrlField(source="on_call_start_url")
    onCallEndUrl = CallbackUrlField(source="on_call_end_url")
    onErrorUrl = CallbackUrlField(source="on_error_url", required=False, allow_null=True)
    name = TextField(required=False, allow_null=True, max_length=LONGEST_NUMBER_NAME)
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


class TwilioAccountSerializer(ObjectSerializer):
    """The credentials of a Twilio account, which are used and not stored."""

    twilioAccountSid = AccountSidField()
    twilioAuthToken = AuthTokenField(help_text="It is used for this request and not stored.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        sid, token = attrs.pop("twilioAccountSid"), attrs.pop("twilioAuthToken")
        return {**attrs, "credentials": TwilioCredentials(sid, token)}


@extend_schema_field({"type": "string", "pattern": f"^{CURSOR.pattern}$"})
class CursorField(TextField):
    """The place of a page in Twilio's list."""

    default_error_messages = {"format": "Send nextPage of the page before."}

    def to_internal_value(self, data: Any) -> str:
        cursor = super().to_internal_value(data)
        if not CURSOR.fullmatch(cursor):
            self.fail("format")
        return cursor


@extend_schema_serializer(component_name="TwilioAccount")
class OfferRequestSerializer(TwilioAccountSerializer):
    after = CursorField(required=False, allow_null=True, help_text="`nextPage` of the page before.")


@extend_schema_serializer(component_name="PhoneNumberConnection")
class ConnectionSerializer(TwilioAccountSerializer):
    phoneNumber = UsNumberField(source="phone_number")
    onCallStartUrl = CallbackUrlField(
        source="on_call_start_url",
        required=False,
        allow_null=True,
        help_text="Required for a new number. A number of yours keeps URLs that you leave out.",
    )
    onCallEndUrl = CallbackUrlField(source="on_call_end_url", required=False, allow_null=True)
    onErrorUrl = CallbackUrlField(source="on_error_url", required=False, allow_null=True)
    name = TextField(required=False, allow_null=True, max_length=LONGEST_NUMBER_NAME)
    moveFromOtherAccount = FlagField(
        default=False,
        help_text="Whether to move a number that another Switchhook account has registered. It is "
        "removed there, and its owner gets an email.",
    )
    replaceRouting = FlagField(
        default=False,
        help_text="Whether to remove the number from its SIP trunk or TwiML application at Twilio, "
        "which would otherwise handle its calls.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        consents = Consents(attrs.pop("moveFromOtherAccount"), attrs.pop("replaceRouting"))
        given = {name: value for name, value in attrs.items() if value is not None}
        return super().validate({**given, "consents": consents})


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
    name = TextField(required=False, allow_null=True, max_length=LONGEST_NUMBER_NAME)
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
    name = OptionalTextField(allow_null=True, help_text="What you call it. Null if you don't.")
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
            "name",
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


class OfferedNumberSerializer(serializers.Serializer[OfferedNumber]):
    phoneNumber = serializers.CharField(source="at_twilio.phone_number")
    twilioName = OptionalTextField(source="at_twilio.name", allow_null=True)
    voiceUrl = OptionalTextField(
        source="at_twilio.voice_url",
        allow_null=True,
        help_text="The number's voice webhook. Twilio ignores it if there is an application or a "
        "trunk.",
    )
    voiceMethod = OptionalTextField(source="at_twilio.voice_method", allow_null=True)
    voiceApplicationSid = OptionalTextField(source="at_twilio.application_sid", allow_null=True)
    trunkSid = OptionalTextField(source="at_twilio.trunk_sid", allow_null=True)
    pointsHere = serializers.BooleanField(
        source="points_here", help_text="Whether Twilio posts its calls to your `engineVoiceUrl`."
    )
    registeredBy = serializers.SerializerMethodField()
    id = OptionalTextField(source="own_id", allow_null=True, help_text="Of your number.")

    @extend_schema_field(
        {
            "type": ["string", "null"],
            "enum": ["you", "other", None],
            "description": "Whose number it is here: yours, or another account's. Null if it is "
            "nobody's.",
        }
    )
    def get_registeredBy(self, offered: OfferedNumber) -> str | None:
        if offered.own:
            return "you"
        return "other" if offered.is_taken else None


class OfferSerializer(AnswerSerializer):
    numbers = OfferedNumberSerializer(many=True)
    nextPage = OptionalTextField(
        source="after", allow_null=True, help_text="Send it as `after`. Null on the last page."
    )


class PhoneNumberAnswerSerializer(AnswerSerializer):
    phoneNumber = PhoneNumberSerializer()


class PhoneNumberDetailAnswerSerializer(AnswerSerializer):
    phoneNumber = PhoneNumberDetailSerializer()


class PhoneNumbersSerializer(AnswerSerializer):
    phoneNumbers = PhoneNumberSerializer(many=True)


class DeletedSerializer(AnswerSerializer):
    deleted = serializers.BooleanField()


_TOO_MANY = {"too_many_requests": "There were too many requests to Twilio, or wrong credentials."}


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
                "phone_number_taken": "Another account has registered the number. If it is yours, "
                "use `POST /api/phone-numbers/connect`.",
                "phone_number_resting": (
                    "Another account had the number until recently. Send `twilioAccountSid` and "
                    "`twilioAuthToken` to prove that it is yours, or wait."
                ),
            },
            429: _TOO_MANY,
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
        "listTwilioNumbers",
        "List the numbers of your Twilio account",
        description="The numbers that you can connect: those in the US that receive calls. Up to "
        "50 a page.",
        request=OfferRequestSerializer,
        answers={200: OfferSerializer},
        errors={
            400: {"phone_number_not_proven": "Twilio refused the credentials."},
            429: _TOO_MANY,
            502: {"carrier_unavailable": "Twilio could not be asked."},
        },
    )
    @action(detail=False, methods=["post"], url_path="twilio")
    def twilio(self, request: AccountRequest) -> Response:
        asked = validated(OfferRequestSerializer, request)
        offer = numbers_at_twilio(
            account=request.user, credentials=asked["credentials"], after=asked.get("after") or ""
        )
        return Response(OfferSerializer(offer).data)

    @endpoint(
        "connectPhoneNumber",
        "Register a number of your Twilio account, and set its voice webhook",
        description="Switchhook verifies with your credentials that the number is yours, registers "
        "it, and sets its voice webhook to your `engineVoiceUrl`. 201 for a new number; 200 for "
        "one of yours. Repeating the request is safe.",
        request=ConnectionSerializer,
        answers={200: PhoneNumberDetailAnswerSerializer, 201: PhoneNumberDetailAnswerSerializer},
        errors={
            400: {
                "country_not_allowed": "It is not a US number.",
                "number_not_allowed": "It is not a landline, mobile or toll-free number, or it "
                "receives no calls at Twilio.",
                "phone_number_not_proven": "Twilio refused the credentials, or the number does not "
                "belong to that Twilio account.",
                "carrier_rejected": "The number is registered, but Twilio did not change its "
                "webhook.",
            },
            409: {
                "phone_number_taken": "Another account has registered the number. Send "
                "`moveFromOtherAccount` to move it.",
                "phone_number_routed": "The number has a SIP trunk or a TwiML application. Send "
                "`replaceRouting` to remove it from there.",
            },
            429: _TOO_MANY,
            502: {
                "carrier_unavailable": "Twilio sent no usable response. Repeat the request: the "
                "number may be registered and not point here yet."
            },
        },
    )
    @action(detail=False, methods=["post"])
    def connect(self, request: AccountRequest) -> Response:
        """Respond with 201 for a new number, or 200 for one that the account had already."""
        number, is_new = phone_number_connect(
            account=request.user, **validated(ConnectionSerializer, request)
        )
        return _detail(number, status=201 if is_new else 200)

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


def _detail(number: PhoneNumber, *, status: int = 200) -> Response:
    return Response({"phoneNumber": PhoneNumberDetailSerializer(number).data}, status=status)


def _one(number: PhoneNumber, *, status: int = 200) -> Response:
    return Response({"phoneNumber": PhoneNumberSerializer(number).data}, status=status)
