"""Every URL of the product."""

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path, re_path

from accounts.urls import urls_of_accounts
from billing.checkout import checkout_url_for
from core import errors
from core.engine_urls import VOICE_PATH

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("docs.urls")),
    path("", include("dashboard.urls")),
    path("", include("operations.urls")),
    path("api/", include(urls_of_accounts(checkout_url_for=checkout_url_for))),
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
