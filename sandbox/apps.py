from django.apps import AppConfig


class SandboxConfig(AppConfig):
    """The stand-ins' management commands; there are no models."""

    name = "sandbox"
