from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangosAdminConfig


class OperationsConfig(AppConfig):
    name = "operations"


class AdminConfig(DjangosAdminConfig):
    """The admin, whose site asks operators for a second factor."""

    default_site = "operations.site.OperatorSite"
