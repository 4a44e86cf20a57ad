from django.apps import AppConfig


class MailConfig(AppConfig):
    """The stand-in for a mail server: what was sent is in a table of its own."""

    name = "sandbox.mail"
    label = "sandbox_mail"
