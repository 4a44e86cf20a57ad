"""Checks of what Switchhook uses on the internet: Twilio, OpenAI and the mail server."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterable
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import get_connection

from operations.doctor.findings import Check, Finding, Options, failed, ok, warning
from operations.doctor.network import Place, Unreachable, as_http, request

_SMTP = "django.core.mail.backends.smtp.EmailBackend"
_MAIL_WITHIN_S = 8


def _hosts(name: str, options: Options) -> Iterable[Finding]:
    url = as_http(getattr(settings, name))
    place = Place.of(url)
    try:
        request(url, is_trusted=True)
    except ssl.SSLError as error:
        yield failed(
            f"The certificate of {place} is not trusted here "
            f"({getattr(error, 'verify_message', '') or error.reason}).",
            "Install ca-certificates and correct the clock. If a firewall inspects TLS, let it "
            "leave this host alone.",
        )
    except Unreachable as error:
        yield failed(
            f"{place} {error}.",
            "Every machine with engines must be able to connect to it. Correct this machine's name "
            "server, or let the firewall pass it.",
        )
    else:
        yield ok(f"{place} responds, over TLS that is trusted here.")


HOSTS = Check(
    "services",
    "Service",
    "Whether Twilio's and OpenAI's hosts can be reached from this machine.",
    _hosts,
    subjects=("TWILIO_API_URL", "OPENAI_REALTIME_URL", "OPENAI_LIVE_URL"),
)


def _mail(subject: str, options: Options) -> Iterable[Finding]:
    if not settings.SENDS_MAIL:
        yield warning(
            "EMAIL_URL is not set, so no email is sent: nobody can confirm an address or reset a "
            "password.",
            "Set EMAIL_URL to your mail server, such as smtp+tls://user:password@host:587.",
        )
        return
    if settings.EMAIL_BACKEND != _SMTP:
        yield warning("Emails go to no mail server.", "Set EMAIL_URL to one in production.")
        return
    sender = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    if sender.rpartition("@")[2] == "localhost":
        yield warning(
            f"The sender of emails is {sender}: most mail servers refuse it, or file it as spam.",
            "Set EMAIL_FROM to an address of a domain of yours.",
        )
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT or smtplib.SMTP_PORT}"
    try:
        _try_to_send(sender)
    except Exception as error:
        yield failed(*_about_mail(error, where, sender))
        return
    if not (settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL):
        yield warning(
            f"{where} takes emails from {sender}, but unencrypted.",
            "Use smtp+tls:// or smtp+ssl:// in EMAIL_URL, unless the server is on this machine: "
            "emails have links that reset passwords.",
        )
    else:
        yield ok(f"{where} takes emails from {sender}, over TLS.")


def _try_to_send(sender: str) -> None:
    """Sign in and name the sender, but no recipient. Raises what smtplib raises."""
    connection: Any = get_connection(timeout=_MAIL_WITHIN_S)
    try:
        connection.open()
        code, reply = connection.connection.mail(sender)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, reply, sender)
        connection.connection.rset()
    finally:
        connection.close()


def _about_mail(error: Exception, where: str, sender: str) -> tuple[str, str]:
    """Return what is wrong with the mail server, and what to do."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return (
                f"{where} refuses the user or the password (status {error.smtp_code}).",
                "Correct them in EMAIL_URL, with special characters percent-encoded.",
            )
        case smtplib.SMTPSenderRefused():
            return (
                f"{where} refuses emails from {sender} (status {error.smtp_code}).",
                "Set EMAIL_FROM to an address that this account may send from.",
            )
        case smtplib.SMTPNotSupportedError():
            return (
                f"{where} does not offer STARTTLS, or no way to sign in.",
                "Use the port for STARTTLS with smtp+tls://, most often 587, or smtp+ssl:// with "
                "465.",
            )
        case ssl.SSLCertVerificationError():
            return (
                f"The certificate of {where} is not valid ({error.verify_message}).",
                "Use the mail server's own name in EMAIL_URL, and renew its certificate if it is "
                "yours.",
            )
        case ssl.SSLError():
            return (
                f"{where} does not speak TLS on this port ({error.reason}).",
                "Use smtp+tls:// with port 587, or smtp+ssl:// with port 465.",
            )
        case socket.gaierror():
            return (
                f"{where} has no address ({error.strerror}).",
                "Correct the host in EMAIL_URL.",
            )
        case OSError() if not isinstance(error, smtplib.SMTPException):
            reason = error.strerror or "timeout"
            return (
                f"{where} does not accept connections ({reason}).",
                "Correct host and port in EMAIL_URL. Many clouds block port 25: use 587 or 465.",
            )
        case smtplib.SMTPResponseException():
            return (
                f"{where} refuses to take emails (status {error.smtp_code}).",
                "Look at the mail server's log.",
            )
    return (
        f"{where} does not speak SMTP as expected ({type(error).__name__}).",
        "Correct host, port and scheme in EMAIL_URL: smtp+tls:// with 587, smtp+ssl:// with 465.",
    )


MAIL = Check(
    "mail",
    "Email",
    "Whether the mail server can be reached, speaks TLS, accepts the sign-in and the sender.",
    _mail,
    needs=("EMAIL_URL", "EMAIL_FROM"),
)
