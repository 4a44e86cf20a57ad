"""Serializers of accounts, API keys, secrets and audit events."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.actors import ActorKind
from accounts.audit import SUPPORT, Action, AuditEvent
from accounts.models import Account, ApiKey
from accounts.password_rules import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from accounts.second_factors import MAX_CODE_LENGTH
from core.api import AnswerSerializer, ObjectSerializer, TextField, UtcDateTimeField
from core.texts import validate_line


class CredentialsSerializer(ObjectSerializer):
    email = serializers.EmailField(max_length=254, validators=[validate_line])
    password = TextField(max_length=MAX_PASSWORD_LENGTH, trim_whitespace=False, lines=True)
    code = TextField(
        max_length=MAX_CODE_LENGTH,
        required=False,
        allow_blank=True,
        allow_null=True,
        help_text="Required if the account has a second factor: a code from its authenticator app, "
        "or a recovery code. Each works once.",
    )


class RegistrationSerializer(CredentialsSerializer):
    password = TextField(
        min_length=MIN_PASSWORD_LENGTH,
        max_length=MAX_PASSWORD_LENGTH,
        trim_whitespace=False,
        lines=True,
        error_messages={"min_length": "Use at least 8 characters."},
        help_text="Not a common password, nor similar to the email address or company name.",
    )
    companyName = TextField(
        source="company_name", max_length=200, required=False, allow_blank=True, allow_null=True
    )
    code = None  # type: ignore[assignment]  # a new account has no second factor


class NewApiKeySerializer(ObjectSerializer):
    label = TextField(  # type: ignore[assignment]  # a serializer is a field, with a label of its own
        max_length=100, required=False, allow_blank=True, allow_null=True
    )


class RegisteredAccountSerializer(serializers.ModelSerializer[Account]):
    companyName = serializers.SerializerMethodField()
    status = serializers.ChoiceField(Account.Status.choices, source="effective_status")

    class Meta:
        model = Account
        fields = ["id", "email", "companyName", "status"]

    def get_companyName(self, account: Account) -> str | None:
        return account.company_name or None


class ResourceCountsSerializer(ObjectSerializer):
    phoneNumbers = serializers.IntegerField()
    apiKeys = serializers.IntegerField()


class AccountSerializer(RegisteredAccountSerializer):
    createdAt = UtcDateTimeField(source="created_at")
    _count = ResourceCountsSerializer(source="resource_counts")

    class Meta(RegisteredAccountSerializer.Meta):
        fields = [*RegisteredAccountSerializer.Meta.fields, "createdAt", "_count"]


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    keyPrefix = serializers.CharField(source="prefix")
    lastUsedAt = UtcDateTimeField(source="last_used_at", allow_null=True)
    createdAt = UtcDateTimeField(source="created_at")

    class Meta:
        model = ApiKey
        fields = ["id", "keyPrefix", "label", "lastUsedAt", "createdAt"]


class RegisteredSerializer(AnswerSerializer):
    account = RegisteredAccountSerializer()
    apiKey = serializers.CharField(help_text="Shown only once.")
    token = serializers.CharField(help_text="A JWT, as `POST /api/auth/login` returns it.")
    checkoutUrl = serializers.URLField(
        allow_null=True, help_text="The page to pay on. Null if Stripe could not be reached."
    )
    engineVoiceUrl = serializers.URLField(
        help_text="The voice webhook to set on your Twilio numbers."
    )


class TokenSerializer(AnswerSerializer):
    token = serializers.CharField(
        help_text=(
            "A JWT that is valid for 12 hours, or until you change your password or sign out "
            "everywhere."
        )
    )


class AccountAnswerSerializer(AnswerSerializer):
    account = AccountSerializer()


class NewlyMadeApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(help_text="Shown only once.")
    lastUsedAt = None  # type: ignore[assignment]  # a new key was never used

    class Meta(ApiKeySerializer.Meta):
        fields = ["id", "key", "keyPrefix", "label", "createdAt"]


class ApiKeysSerializer(AnswerSerializer):
    apiKeys = ApiKeySerializer(many=True)


class RevokedSerializer(AnswerSerializer):
    revoked = serializers.BooleanField()


class WebhookSecretSerializer(AnswerSerializer):
    secret = serializers.CharField(help_text="`whsec_…`")


class RotatedWebhookSecretSerializer(WebhookSecretSerializer):
    previousSecretValidUntil = UtcDateTimeField(
        help_text="Until then, callbacks are also signed with the previous secret."
    )


_ACTORS = [ActorKind.CUSTOMER, ActorKind.API_KEY, SUPPORT, ActorKind.SYSTEM, ActorKind.VISITOR]


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
    }
)
class DetailField(serializers.JSONField):
    """A flat object. Its names depend on the action."""


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    createdAt = UtcDateTimeField(source="created_at")
    action = serializers.CharField(
        help_text=f"For example `{Action.API_KEY_CREATED}`. New actions may be added at any time."
    )
    description = serializers.CharField(source="sentence", help_text="The action as a sentence.")
    actor = serializers.ChoiceField(
        _ACTORS,
        source="shown_kind",
        help_text="Who did it. `support` runs this service; a `visitor` was not signed in.",
    )
    actorName = serializers.CharField(source="shown_name")
    apiKeyId = serializers.CharField(
        source="shown_api_key_id", allow_null=True, help_text="The API key that was used."
    )
    network = serializers.CharField(
        source="shown_network",
        allow_null=True,
        help_text="The client's IPv4 address, or the /64 of its IPv6 address.",
    )
    requestId = serializers.CharField(source="shown_request_id", allow_null=True)
    detail = DetailField()

    class Meta:
        model = AuditEvent
        fields = [
            "id",
            "createdAt",
            "action",
            "description",
            "actor",
            "actorName",
            "apiKeyId",
            "network",
            "requestId",
            "detail",
        ]
        read_only_fields = fields


class AuditEventsSerializer(AnswerSerializer):
    auditEvents = AuditEventSerializer(many=True)
    limit = serializers.IntegerField(help_text="The limit that was applied.")
    offset = serializers.IntegerField()
    hasMore = serializers.BooleanField()
