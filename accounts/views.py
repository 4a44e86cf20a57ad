"""The API's endpoints for accounts."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.audit import AuditEvent
from accounts.authentication import AccountRequest, token_for
from accounts.models import Account, ApiKey
from accounts.second_factors import code_require, has_second_factor
from accounts.serializers import (
    AccountAnswerSerializer,
    AccountSerializer,
    ApiKeySerializer,
    ApiKeysSerializer,
    AuditEventSerializer,
    AuditEventsSerializer,
    CredentialsSerializer,
    NewApiKeySerializer,
    NewlyMadeApiKeySerializer,
    RegisteredAccountSerializer,
    RegisteredSerializer,
    RegistrationSerializer,
    RevokedSerializer,
    RotatedWebhookSecretSerializer,
    TokenSerializer,
    WebhookSecretSerializer,
)
from accounts.services import (
    account_authenticate,
    account_note_login,
    account_register,
    api_key_create,
    api_key_revoke,
    webhook_secret_rotate,
    webhook_secret_show,
)
from accounts.throttling import login_attempt, registration_attempt, second_factor_attempt
from core.api import iso, page_with_more, validated
from core.engine_urls import engine_voice_url
from core.errors import unauthorized
from core.schema import PAGE, endpoint

TOO_MANY_ATTEMPTS = {"too_many_requests": "Too many attempts. Wait for `Retry-After` seconds."}


class AuthViewSet(ViewSet):
    authentication_classes = []
    permission_classes = [AllowAny]

    def checkout_url_for(self, account: Account) -> str | None:
        """Return the page on which a new account pays; ``accounts.urls`` brings the function."""
        raise NotImplementedError

    @endpoint(
        "register",
        "Create an account",
        description="The account is `INACTIVE` until you pay. To pay, open `checkoutUrl`.",
        request=RegistrationSerializer,
        answers={201: RegisteredSerializer},
        errors={
            409: {
                "email_taken": "An account with this email address already exists. Sign in instead."
            },
            429: TOO_MANY_ATTEMPTS,
        },
    )
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
                "checkoutUrl": self.checkout_url_for(account),
                "engineVoiceUrl": engine_voice_url(),
            },
            status=201,
        )

    @endpoint(
        "logIn",
        "Get a token",
        description="If the account has a second factor, send a `code` as well.",
        request=CredentialsSerializer,
        answers={200: TokenSerializer},
        errors={
            401: {
                "invalid_credentials": "The email address or password is wrong.",
                "second_factor_required": "The account has a second factor. Send a `code` as well.",
                "second_factor_invalid": "The `code` is wrong, expired or already used.",
            },
            429: TOO_MANY_ATTEMPTS,
        },
    )
    def login(self, request: Request) -> Response:
        credentials = validated(CredentialsSerializer, request)
        code = credentials.pop("code", None) or ""
        with login_attempt(request, email=credentials["email"]):
            account = account_authenticate(**credentials)
        has_shown = _require_second_factor(request, account, code)
        account_note_login(account=account)
        return Response({"token": token_for(account, second_factor=has_shown)})


def _require_second_factor(request: Request, account: Account, code: str) -> bool:
    """Verify the second factor if the account has one; return True if it has."""
    if not has_second_factor(account):
        return False
    if not code:
        raise unauthorized(
            "second_factor_required",
            "This account has a second factor. Send a code from its authenticator app, or a "
            "recovery code, as code.",
        )
    with second_factor_attempt(request, account):
        code_require(account, code)
    return True


class AccountViewSet(ViewSet):
    @endpoint("getAccount", "Get the account", answers={200: AccountAnswerSerializer})
    def retrieve(self, request: AccountRequest) -> Response:
        return Response({"account": AccountSerializer(request.user).data})


class ApiKeyViewSet(ViewSet):
    @endpoint("listApiKeys", "List the active API keys", answers={200: ApiKeysSerializer})
    def list(self, request: AccountRequest) -> Response:
        keys = ApiKey.objects.of(request.user).active().newest_first()
        return Response({"apiKeys": ApiKeySerializer(keys, many=True).data})

    @endpoint(
        "createApiKey",
        "Create an API key",
        request=NewApiKeySerializer,
        answers={201: NewlyMadeApiKeySerializer},
        errors={409: {"too_many_api_keys": "The account has reached its limit of API keys."}},
    )
    def create(self, request: AccountRequest) -> Response:
        new = api_key_create(account=request.user, **validated(NewApiKeySerializer, request))
        body: dict[str, Any] = {**ApiKeySerializer(new.api_key).data, "key": new.plain}
        del body["lastUsedAt"]
        return Response(body, status=201)

    @endpoint(
        "revokeApiKey",
        "Revoke an API key",
        description="The key stops working at once.",
        answers={200: RevokedSerializer},
    )
    def destroy(self, request: AccountRequest, pk: str) -> Response:
        api_key_revoke(account=request.user, id=pk)
        return Response({"revoked": True})


class WebhookSecretViewSet(ViewSet):
    @endpoint(
        "getWebhookSecret",
        "Get the webhook secret",
        answers={200: WebhookSecretSerializer},
    )
    def retrieve(self, request: AccountRequest) -> Response:
        return Response({"secret": webhook_secret_show(account=request.user)})

    @endpoint(
        "rotateWebhookSecret",
        "Rotate the webhook secret",
        answers={200: RotatedWebhookSecretSerializer},
    )
    def rotate(self, request: AccountRequest) -> Response:
        secret, previous_valid_until = webhook_secret_rotate(account=request.user)
        return Response({"secret": secret, "previousSecretValidUntil": iso(previous_valid_until)})


class AuditEventViewSet(ViewSet):
    @endpoint(
        "listAuditEvents",
        "List changes to the account",
        description="Newest first. Events never change.",
        parameters=PAGE,
        answers={200: AuditEventsSerializer},
    )
    def list(self, request: AccountRequest) -> Response:
        found = AuditEvent.objects.of(request.user).order_by("-created_at", "-id")
        page, about = page_with_more(request, found)
        return Response({"auditEvents": AuditEventSerializer(page, many=True).data, **about})
