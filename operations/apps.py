from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangosAdminConfig


class OperationsConfig(AppConfig):
    name = "operations"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_out

        import core.static_files  # noqa: F401 (its check)
        from operations.impersonation import note_sign_out

        user_logged_out.connect(note_sign_out, dispatch_uid="end-of-impersonation")


class AdminConfig(DjangosAdminConfig):
    """The admin, whose site asks operators for a second factor."""

    default_site = "operations.site.OperatorSite"
