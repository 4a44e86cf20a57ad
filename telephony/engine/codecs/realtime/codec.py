"""The codec of OpenAI's Realtime protocol. It keeps no state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from telephony.engine.codecs.interface import Send
from telephony.engine.codecs.realtime import reader, relay, writer
from telephony.engine.events import Event
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder


class RealtimeCodec:
    hears_at_once = True

    def decode(self, message: object) -> Sequence[Event]:
        event = reader.decode(message)
        return () if event is None else (event,)

    def closed(self) -> Sequence[Event]:
        return ()

    def due(self) -> list[dict[str, Any]]:
        return []

    audio = staticmethod(reader.delta)
    encode = staticmethod(writer.encode)
    append_audio = staticmethod(writer.append_audio)
    caller_frame = staticmethod(relay.caller_frame)

    def agent_audio(
        self, send: Send, encoder: Encoder, playback: Playback, clock: Callable[[], float]
    ) -> relay.DeltaRelay:
        return relay.DeltaRelay(send, encoder, playback, clock)
