"""Fields that several resources share: numbers, callback URLs, metadata.

Their rules are those of the services. They run here as well, so that one response lists everything
that is wrong with a body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api import TextField, UtcDateTimeField
from telephony.callback_urls import LONGEST_URL, callback_url_problem
from telephony.callbacks.attempts import answer_of
from telephony.callbacks.payloads import METADATA_LIMITS, metadata_problem
from telephony.engine.plan import ACCOUNT_SID, LONGEST_AUTH_TOKEN, is_phone_number
from telephony.models import SealedAnswer
from telephony.numbering import US_NUMBER, us_number_problem
from telephony.twilio_rest import AUTH_TOKEN, account_sid_problem, auth_token_problem


def _without(problem_of: Callable[[str], str | None], text: str) -> str:
    """Return the text; raise DRF's ``ValidationError`` with its problem, if it has one."""
    if problem := problem_of(text):
        raise serializers.ValidationError(problem)
    return text


@extend_schema_field({"type": "string", "pattern": f"^{US_NUMBER.pattern}$"})
class UsNumberField(TextField):
    """A US number: ``+1`` and ten digits."""

    def to_internal_value(self, data: Any) -> str:
        return _without(us_number_problem, super().to_internal_value(data))


@extend_schema_field({"type": "string", "pattern": r"^\+(1[0-9]{10}|[2-9][0-9]{6,14})$"})
class E164Field(TextField):
    """A number of any country; ``+1`` is followed by ten digits."""

    default_error_messages = {"format": "Use a number in E.164, like +15551234567."}

    def to_internal_value(self, data: Any) -> str:
        number = super().to_internal_value(data)
        is_us_number = US_NUMBER.fullmatch(number) is not None
        if not (is_us_number if number.startswith("+1") else is_phone_number(number)):
            self.fail("format")
        return number


@extend_schema_field({"type": "string", "format": "uri", "maxLength": LONGEST_URL})
class CallbackUrlField(TextField):
    """A public ``https://`` URL."""

    def to_internal_value(self, data: Any) -> str:
        return _without(callback_url_problem, super().to_internal_value(data))


@extend_schema_field(
    {
        "anyOf": [{}],  # drf-spectacular wants something that it can add null to
        "description": (f"Any JSON. {METADATA_LIMITS} Every callback of the call includes it."),
    }
)
class MetadataField(serializers.Field[Any, Any, Any, Any]):
    """Any JSON that can be stored and sent back, up to 16 KB as UTF-8 without spaces."""

    def to_internal_value(self, data: Any) -> Any:
        if problem := metadata_problem(data):
            raise serializers.ValidationError(problem)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "pattern": f"^{ACCOUNT_SID.pattern}$"})
class AccountSidField(TextField):
    """The Account SID of a Twilio account."""

    def to_internal_value(self, data: Any) -> str:
        return _without(account_sid_problem, super().to_internal_value(data))


@extend_schema_field(
    {"type": "string", "pattern": f"^{AUTH_TOKEN.pattern}$", "maxLength": LONGEST_AUTH_TOKEN}
)
class AuthTokenField(TextField):
    """A Twilio auth token, which is used and not stored."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=LONGEST_AUTH_TOKEN, **options)

    def to_internal_value(self, data: Any) -> str:
        return _without(auth_token_problem, super().to_internal_value(data))


class OptionalTextField(serializers.CharField):
    """A text whose absence is ``""`` in the database and ``null`` in the API."""

    def to_representation(self, value: str) -> str | None:  # type: ignore[override]
        return value or None


class AnswerFields(serializers.Serializer[SealedAnswer]):
    """How a request to the customer's backend ended."""

    at = UtcDateTimeField()
    durationMs = serializers.IntegerField(
        source="duration_ms",
        help_text="The time until the complete response arrived, or until the timeout.",
    )
    result = serializers.CharField(help_text="An HTTP status, or the name of a failure.")
    answer = serializers.SerializerMethodField(
        help_text="The first 500 bytes of your backend's response, as text. Credentials are masked."
    )

    def get_answer(self, request: SealedAnswer) -> str:
        return answer_of(request)
