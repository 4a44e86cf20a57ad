"""The URLs of a single call that we give to Twilio. Our signature in each keeps others out.

The media socket's URL carries none: Twilio allows no query there, and the ticket does that work.
"""

from __future__ import annotations

from datetime import timedelta

from django.core import signing

from core.engine_urls import engine_voice_url

# A call lasts an hour at most, its last status arrives minutes later, and an outbound call may ring
# for two minutes before.
VALID_FOR = timedelta(hours=3)

_signer = signing.TimestampSigner(salt="telephony.voice")


class InvalidLink(Exception):
    """The token was not made here, was made for something else, or is too old."""


def outbound_url(call_id: str) -> str:
    """Return the URL that Twilio asks for TwiML when the called party answers."""
    return _link("answer", call_id)


def status_url(call_id: str) -> str:
    """Return the URL that hears of each change of an outbound call's status."""
    return _link("status", call_id)


def stream_status_url(call_id: str) -> str:
    """Return the URL that hears of the media stream's start, stop and errors."""
    return _link("stream", call_id)


def after_stream_url(call_id: str) -> str:
    """Return the URL that Twilio asks for TwiML when the media stream has ended."""
    return _link("after", call_id)


def call_id_of(purpose: str, token: str) -> str:
    """Return the call's id; raise :class:`InvalidLink` unless the token is ours for it."""
    try:
        value = _signer.unsign(token, max_age=VALID_FOR)
    except signing.BadSignature as error:
        raise InvalidLink(str(error)) from None
    made_for, _, call_id = value.partition(".")
    if made_for != purpose:
        raise InvalidLink("made for something else")
    return call_id


def _link(purpose: str, call_id: str) -> str:
    return engine_voice_url(f"/{purpose}/{_signer.sign(f'{purpose}.{call_id}')}")
