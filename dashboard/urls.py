"""The pages of the dashboard, and those for signing in and up."""

from django.urls import include, path

urlpatterns = [
    path("", include("dashboard.overview")),
    path("", include("dashboard.live_calls")),
    path("", include("dashboard.checklist")),
    path("", include("dashboard.billing")),
    path("", include("dashboard.keys")),
    path("", include("dashboard.connecting")),
    path("", include("dashboard.numbers")),
    path("", include("dashboard.calls")),
    path("", include("dashboard.callbacks")),
    path("", include("dashboard.sessions")),
    path("", include("dashboard.confirmation")),
    path("", include("dashboard.passwords")),
    path("", include("dashboard.settings")),
    path("", include("dashboard.notifications")),
    path("", include("dashboard.activity")),
    path("", include("dashboard.signing_out")),
    path("", include("dashboard.second_factor")),
    path("", include("dashboard.testcall")),
]
