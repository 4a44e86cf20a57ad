"""Which codec speaks to which model."""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.codecs.interface import Codec
from telephony.engine.codecs.live.codec import LiveCodec
from telephony.engine.codecs.realtime.codec import RealtimeCodec
from telephony.engine.models import Protocol, protocol_of

_CODECS: dict[Protocol, Callable[[], Codec]] = {
    "realtime": RealtimeCodec,
    "live": LiveCodec,
}


def codec_of(name: str) -> Codec:
    """Return a new codec for a call with the model."""
    return _CODECS[protocol_of(name)]()
