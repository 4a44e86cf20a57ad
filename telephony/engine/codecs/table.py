"""Which codec speaks to which model."""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.codecs.interface import Codec
from telephony.engine.codecs.live.codec import LiveCodec
from telephony.engine.codecs.realtime.codec import RealtimeCodec
from telephony.engine.models import Protocol, model_of

_CODECS: dict[Protocol, Callable[[], Codec]] = {
    "realtime": RealtimeCodec,
    "live": LiveCodec,
}


def codec_of(name: str) -> Codec:
    """Return a new codec for a call with the model; it is Realtime's for an unknown model."""
    model = model_of(name)
    return _CODECS.get(model.protocol if model else "realtime", RealtimeCodec)()
