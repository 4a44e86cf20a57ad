"""The admin, whose site asks operators for a second factor."""

from django.contrib.admin.apps import AdminConfig as DjangosAdminConfig


class AdminConfig(DjangosAdminConfig):
    default_site = "accounts.operators.OperatorSite"
