from django.apps import AppConfig


class MailConfig(AppConfig):
    """The stand-in for a mail server: sent emails are in its own table."""

    name = "sandbox.mail"
    label = "sandbox_mail"
