"""Whether a request is Twilio's: its signature, made with the customer's auth token."""

from __future__ import annotations

from django.conf import settings
from django.http import QueryDict
from twilio.request_validator import RequestValidator


def is_signed_webhook(path: str, form: QueryDict, signature: str, auth_token: str) -> bool:
    """Check a form that was posted to ``path`` (with its query) of the public engine URL.

    All values of a parameter that is there more than once are signed. Behind a proxy that is not
    the URL that Django sees.
    """
    url = settings.ENGINE_URL + path
    return bool(RequestValidator(auth_token).validate(url, form, signature))


def is_signed_upgrade(signature: str, auth_token: str) -> bool:
    """Check the upgrade of the media socket; Twilio may have put a slash behind the URL."""
    validator = RequestValidator(auth_token)
    url = settings.MEDIA_STREAM_URL
    return bool(
        validator.validate(url, {}, signature) or validator.validate(f"{url}/", {}, signature)
    )
