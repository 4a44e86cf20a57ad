"""The hot path: audio on its way from one socket to the other, 50 messages a second each way.

A relay is offered every message. It takes those that look exactly like audio, finds the base64 text
with a byte scan and sends it on in the other side's message, unchanged. Whatever else comes, or
comes in another shape, it leaves to the parser.
"""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.model_codec import APPEND, audio_size
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder

Send = Callable[[bytes], None]

# As Twilio and OpenAI write them. Within a JSON string every quote is escaped, so that the next
# plain one ends it; an escaped slash in the audio stays as it is, which is JSON as well.
_MEDIA = b'{"event":"media"'
_PAYLOAD = b'"payload":"'
_DELTA = b'{"type":"response.output_audio.delta"'
_AUDIO = b'"delta":"'


class CallerRelay:
    """From Twilio's media messages to the model's input buffer."""

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        self._send = send

    def take(self, text: bytes) -> bool:
        """Pass a frame on; False if the message is not one."""
        if not text.startswith(_MEDIA):
            return False
        payload = text.partition(_PAYLOAD)[2]
        end = payload.find(b'"')
        if end < 1:
            return False
        self._send(APPEND + payload[:end] + b'"}')
        return True


class AgentRelay:
    """From the model's deltas to Twilio's media messages, with marks between them.

    The first frame of an item comes through ``play``. The frames behind it are only added up, until
    a mark is due or ``settle`` tells the playback, which is done before anybody asks it something.
    """

    __slots__ = ("_at", "_clock", "_encoder", "_item", "_passed", "_playback", "_room", "_send")

    def __init__(
        self, send: Send, encoder: Encoder, playback: Playback, clock: Callable[[], float]
    ) -> None:
        self._send = send
        self._encoder = encoder
        self._playback = playback
        self._clock = clock
        self._item = b""  # the current item's id, as it stands in a delta, and where
        self._at = 0
        self._room = 0  # bytes that may pass before a mark is due
        self._passed = 0  # bytes that have passed and that the playback does not know of

    def take(self, text: bytes) -> bool:
        """Pass on a frame of the current item; False if the message is none, or a mark is due."""
        if not self._room or not text.startswith(_DELTA):
            return False
        if not text.startswith(self._item, self._at):
            self._at = max(0, text.find(self._item))
            if not self._at:
                return False
        start = text.find(_AUDIO, self._at) + 9
        payload = text[start : text.find(b'"', start)]
        size = len(payload) // 4 * 3 - payload.count(b"=", -2)  # audio_size, without the call
        if start < 9 or size >= self._room:
            return False
        self._room -= size
        self._passed += size
        self._send(self._encoder.before_media + payload + b'"}}')
        return True

    def play(self, item_id: str, payload: bytes) -> None:
        """Send the caller a frame, and a mark when one is due; drop it if it was interrupted."""
        self.settle()
        mark = self._playback.sent(item_id, audio_size(payload), self._clock())
        if mark is None:
            return
        self._send(self._encoder.media(payload))
        if mark:
            self._send(self._encoder.mark(mark))
        self._item = b'"item_id":"' + item_id.encode() + b'"'
        self._room = self._playback.room

    def settle(self) -> None:
        """Tell the playback what has passed; the next frame comes through ``play`` again."""
        if self._passed:
            self._playback.passed(self._passed)
        self._passed = self._room = 0
