"""Accounts and keys as the API reads and writes them."""

from __future__ import annotations

from rest_framework import serializers

from accounts.models import Account, ApiKey
from config.api import ObjectSerializer, TextField, UtcDateTimeField

# Long enough for every password manager, short enough that hashing it costs what a short one costs.
MAX_PASSWORD_LENGTH = 1000


class CredentialsSerializer(ObjectSerializer):
    email = serializers.EmailField(max_length=254)
    password = TextField(max_length=MAX_PASSWORD_LENGTH, trim_whitespace=False)


class RegistrationSerializer(CredentialsSerializer):
    companyName = TextField(
        source="company_name", max_length=200, required=False, allow_blank=True, allow_null=True
    )


class NewApiKeySerializer(ObjectSerializer):
    label = TextField(  # type: ignore[assignment]  # a serializer is a field, with a label of its own
        max_length=100, required=False, allow_blank=True, allow_null=True
    )


class RegisteredAccountSerializer(serializers.ModelSerializer[Account]):
    companyName = serializers.SerializerMethodField()
    status = serializers.CharField(source="effective_status")

    class Meta:
        model = Account
        fields = ["id", "email", "companyName", "status"]

    def get_companyName(self, account: Account) -> str | None:
        return account.company_name or None


class AccountSerializer(RegisteredAccountSerializer):
    createdAt = UtcDateTimeField(source="created_at")
    _count = serializers.DictField(source="resource_counts")

    class Meta(RegisteredAccountSerializer.Meta):
        fields = [*RegisteredAccountSerializer.Meta.fields, "createdAt", "_count"]


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    keyPrefix = serializers.CharField(source="prefix")
    lastUsedAt = UtcDateTimeField(source="last_used_at")
    createdAt = UtcDateTimeField(source="created_at")

    class Meta:
        model = ApiKey
        fields = ["id", "keyPrefix", "label", "lastUsedAt", "createdAt"]
