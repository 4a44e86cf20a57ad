"""Endpoints of accounts, below ``/api/``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest, token_for
from accounts.models import ApiKey
from accounts.serializers import (
    AccountSerializer,
    ApiKeySerializer,
    CredentialsSerializer,
    NewApiKeySerializer,
    RegisteredAccountSerializer,
    RegistrationSerializer,
)
from accounts.services import (
    account_log_in,
    account_register,
    api_key_create,
    api_key_revoke,
    webhook_secret_rotate,
)
from accounts.throttling import login_attempt, registration_attempt
from config.api import iso, validated


class AuthViewSet(ViewSet):
    authentication_classes = []
    permission_classes = [AllowAny]

    @action(detail=False, methods=["post"])
    def register(self, request: Request) -> Response:
        registration = validated(RegistrationSerializer, request)
        with registration_attempt(request, email=registration["email"]):
            new = account_register(**registration)
        account = new.api_key.account
        return Response(
            {
                "account": RegisteredAccountSerializer(account).data,
                "apiKey": new.plain,
                "token": token_for(account),
                "checkoutUrl": None,
                "engineVoiceUrl": f"{settings.ENGINE_URL}/voice",
            },
            status=201,
        )

    @action(detail=False, methods=["post"])
    def login(self, request: Request) -> Response:
        credentials = validated(CredentialsSerializer, request)
        with login_attempt(request, email=credentials["email"]):
            account = account_log_in(**credentials)
        return Response({"token": token_for(account)})


class AccountViewSet(ViewSet):
    def retrieve(self, request: AccountRequest) -> Response:
        return Response({"account": AccountSerializer(request.user).data})


class ApiKeyViewSet(ViewSet):
    def list(self, request: AccountRequest) -> Response:
        keys = ApiKey.objects.of(request.user).active().newest_first()
        return Response({"apiKeys": ApiKeySerializer(keys, many=True).data})

    def create(self, request: AccountRequest) -> Response:
        new = api_key_create(account=request.user, **validated(NewApiKeySerializer, request))
        body: dict[str, Any] = {**ApiKeySerializer(new.api_key).data, "key": new.plain}
        del body["lastUsedAt"]
        return Response(body, status=201)

    def destroy(self, request: AccountRequest, pk: str) -> Response:
        api_key_revoke(account=request.user, id=pk)
        return Response({"revoked": True})


class WebhookSecretViewSet(ViewSet):
    def retrieve(self, request: AccountRequest) -> Response:
        return Response({"secret": request.user.webhook_secret.secret})

    def rotate(self, request: AccountRequest) -> Response:
        secret, previous_valid_until = webhook_secret_rotate(account=request.user)
        return Response({"secret": secret, "previousSecretValidUntil": iso(previous_valid_until)})
