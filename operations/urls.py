"""The admin, and the operators' way to a customer's dashboard."""

from django.conf import settings
from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from operations import impersonation

urlpatterns = [
    # One way in, with one limit on attempts.
    path("admin/login/", RedirectView.as_view(pattern_name="log-in", query_string=True)),
    path("admin/", admin.site.urls),
    # The admin's pages name no icon.
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}mark.svg")),
    path("operators/impersonate/<str:account_id>", impersonation.impersonate, name="impersonate"),
    path("operators/stop-impersonating", impersonation.stop, name="stop-impersonating"),
]
