"""The API's endpoints for accounts."""

from __future__ import annotations

from collections.abc import Callable

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from accounts import views
from accounts.models import Account


def urls_of_accounts(
    *, checkout_url_for: Callable[[Account], str | None]
) -> list[URLPattern | URLResolver]:
    """Return the endpoints.

    :param checkout_url_for: returns the page on which a new account pays, None if there is none
        now. Billing stands above accounts, so that ``config.urls`` brings the two together.
    """
    router = SimpleRouter(trailing_slash=False)
    router.register("api-keys", views.ApiKeyViewSet, basename="api-key")
    router.register("audit-events", views.AuditEventViewSet, basename="audit-event")
    register = views.AuthViewSet.as_view({"post": "register"}, checkout_url_for=checkout_url_for)
    return [
        path("auth/register", register),
        path("auth/login", views.AuthViewSet.as_view({"post": "login"})),
        *router.urls,
        path("account", views.AccountViewSet.as_view({"get": "retrieve"})),
        path("webhooks/secret", views.WebhookSecretViewSet.as_view({"get": "retrieve"})),
        path("webhooks/secret/rotate", views.WebhookSecretViewSet.as_view({"post": "rotate"})),
    ]
