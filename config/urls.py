"""Every URL of the product."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from core import errors
from core.engine_urls import VOICE_PATH

urlpatterns = [
    path("", include("docs.urls")),
    path("", include("dashboard.urls")),
    # One way in, with one limit on attempts.
    path("admin/login/", RedirectView.as_view(pattern_name="log-in", query_string=True)),
    path("admin/", admin.site.urls),
    # The admin's pages name no icon.
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}mark.svg")),
    path("api/", include("accounts.urls")),
    path("api/", include("usage.urls")),
    path("api/", include("billing.urls")),
    path("api/", include("telephony.urls")),
    path("billing/", include("billing.pages")),
    path("webhooks/stripe", include("billing.webhooks")),
    path(VOICE_PATH.removeprefix("/"), include("telephony.voice.urls")),
]

if settings.SANDBOX:
    urlpatterns += [
        path("sandbox/mail/", include("sandbox.mail.urls")),
        path("sandbox/payments/", include("sandbox.payments.pages.urls")),
    ]

urlpatterns += [re_path("", errors.unknown_path)]

handler400 = errors.bad_request
handler403 = errors.permission_denied
handler404 = errors.page_not_found
handler500 = errors.server_error
