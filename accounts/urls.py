"""Endpoints of accounts, below ``/api/``."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from accounts import views

router = SimpleRouter(trailing_slash=False)
router.register("auth", views.AuthViewSet, basename="auth")
router.register("api-keys", views.ApiKeyViewSet, basename="api-key")
router.register("audit-events", views.AuditEventViewSet, basename="audit-event")

urlpatterns = [
    *router.urls,
    path("account", views.AccountViewSet.as_view({"get": "retrieve"})),
    path("webhooks/secret", views.WebhookSecretViewSet.as_view({"get": "retrieve"})),
    path("webhooks/secret/rotate", views.WebhookSecretViewSet.as_view({"post": "rotate"})),
]
