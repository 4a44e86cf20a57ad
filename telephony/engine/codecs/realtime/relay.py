"""Realtime's audio on the hot path: a delta names its item, so most of them pass unparsed."""

from __future__ import annotations

from telephony.engine.codecs.realtime.writer import APPEND
from telephony.engine.codecs.relay import AgentRelay, caller_frames

_DELTA = b'{"type":"response.output_audio.delta"'
_AUDIO = b'"delta":"'

caller_frame = caller_frames(APPEND)


class DeltaRelay(AgentRelay):
    """Converts the model's deltas to Twilio's media messages."""

    __slots__ = ()

    def take(self, text: bytes) -> bytes | None:
        """Convert a delta of the current item to a media message; None if a mark is due."""
        if not text.startswith(_DELTA):
            return None
        payload, end, _ = text.partition(self._item)[2].partition(_AUDIO)[2].partition(b'"')
        size = len(payload.rstrip(b"=")) * 3 // 4  # audio_size, without the call
        room = self._room - size
        if not size or not end or room <= 0:
            return None
        self._room = room
        return self._before + payload + b'"}}'
