"""The URLs of a single call that Twilio requests. Our signature in each keeps others out.

The media socket's URL has none: Twilio allows no query there, and the ticket serves that purpose.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

from django.core import signing

from core.engine_urls import engine_voice_url

# Twilio ends a call after four hours, its last status arrives minutes later, and an outbound call
# may ring for two minutes first.
VALID_FOR = timedelta(hours=5)

# Masked in logs by this name: see core/logs.py.
_KEY = "conversation_key"

_signer = signing.TimestampSigner(salt="telephony.voice")


class InvalidLink(Exception):
    """The token was not made here, was made for another purpose, or has expired."""


def outbound_url(call_id: str) -> str:
    """Return the URL that Twilio requests for TwiML when the callee answers."""
    return _link("answer", call_id)


def status_url(call_id: str) -> str:
    """Return the URL to which Twilio reports each change of an outbound call's status."""
    return _link("status", call_id)


def stream_status_url(call_id: str) -> str:
    """Return the URL to which Twilio reports the media stream's start, stop and errors."""
    return _link("stream", call_id)


def after_stream_url(call_id: str, key: str = "") -> str:
    """Return the URL that Twilio requests for TwiML when the media stream has ended.

    :param key: opens the call's conversation, so that another engine can go on with it.
    """
    link = _link("after", call_id)
    return f"{link}?{urlencode({_KEY: key})}" if key else link


def conversation_key_in(path: str) -> str:
    """Return the key in the path and query of such a URL, or "" if there is none."""
    return parse_qs(urlsplit(path).query).get(_KEY, [""])[0]


def call_id_of(purpose: str, token: str) -> str:
    """Return the call's id; raise :class:`InvalidLink` unless the token is valid for this."""
    try:
        value = _signer.unsign(token, max_age=VALID_FOR)
    except signing.BadSignature as error:
        raise InvalidLink(str(error)) from None
    made_for, _, call_id = value.partition(".")
    if made_for != purpose:
        raise InvalidLink("made for another purpose")
    return call_id


def _link(purpose: str, call_id: str) -> str:
    return engine_voice_url(f"/{purpose}/{_signer.sign(f'{purpose}.{call_id}')}")
