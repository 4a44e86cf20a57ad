"""The engine's public URLs, which customers give to Twilio and Twilio requests."""

from __future__ import annotations

from django.conf import settings

VOICE_PATH = "/voice"


def engine_voice_url(below: str = "") -> str:
    """Return the ``engineVoiceUrl``, the voice webhook of every customer's numbers.

    :param below: the rest of the path, for the URLs of a single call.
    """
    return f"{settings.ENGINE_URL}{VOICE_PATH}{below}"
