"""The codec of OpenAI's Realtime protocol. It keeps no state."""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.codecs.interface import Send
from telephony.engine.codecs.realtime import reader, relay, writer
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder


class RealtimeCodec:
    decode = staticmethod(reader.decode)
    audio = staticmethod(reader.delta)
    encode = staticmethod(writer.encode)
    append_audio = staticmethod(writer.append_audio)
    caller_frame = staticmethod(relay.caller_frame)

    def agent_audio(
        self, send: Send, encoder: Encoder, playback: Playback, clock: Callable[[], float]
    ) -> relay.AgentRelay:
        return relay.AgentRelay(send, encoder, playback, clock)
