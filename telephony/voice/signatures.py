"""Twilio's signatures of requests, made with the customer's auth token."""

from __future__ import annotations

from django.conf import settings
from django.http import QueryDict
from twilio.request_validator import RequestValidator


def is_signed_webhook(path: str, form: QueryDict, signature: str, auth_token: str) -> bool:
    """Verify a form that was posted to ``path`` (with its query) of the public engine URL.

    All values of a repeated parameter are signed. Behind a proxy, the public URL differs from the
    one that Django sees.
    """
    url = settings.ENGINE_URL + path
    return bool(RequestValidator(auth_token).validate(url, form, signature))


def is_signed_upgrade(signature: str, auth_token: str) -> bool:
    """Verify the upgrade of the media socket. Twilio may have appended a slash to the URL."""
    validator = RequestValidator(auth_token)
    url = settings.MEDIA_STREAM_URL
    return bool(
        validator.validate(url, {}, signature) or validator.validate(f"{url}/", {}, signature)
    )
