"""The hot path: audio on its way from one socket to the other, 50 messages a second each way.

A relay is offered every message. It takes those that look exactly like audio, finds the base64 text
with a byte scan and sends it on in the other side's message, unchanged. Whatever else comes, or
comes in another shape, it leaves to the parser.
"""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.model_writer import APPEND, audio_size
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder

Send = Callable[[bytes], None]

# As Twilio and OpenAI write them. Within a JSON string every quote is escaped, so that the next
# plain one ends it; an escaped slash in the audio stays as it is, which is JSON as well.
_MEDIA = b'{"event":"media"'
_PAYLOAD = b'"payload":"'
_INBOUND = b'"track":"inbound"'
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
        head, _, rest = text.partition(_PAYLOAD)
        payload, end, _ = rest.partition(b'"')
        if not payload or not end or _INBOUND not in head:
            return False
        self._send(APPEND + payload + b'"}')
        return True


class AgentRelay:
    """From the model's deltas to Twilio's media messages, with marks between them.

    The first frame of an item comes through ``play``. The frames behind it are only added up, and
    the one at which a mark is due takes the same way, without being parsed. Before anybody asks the
    playback something, ``settle`` tells it of them; once it has its answers, ``resume`` lets the
    next ones pass.
    """

    __slots__ = (
        "_before",
        "_clock",
        "_encoder",
        "_given",
        "_item",
        "_item_id",
        "_playback",
        "_room",
        "_send",
    )

    def __init__(
        self, send: Send, encoder: Encoder, playback: Playback, clock: Callable[[], float]
    ) -> None:
        self._send = send
        self._encoder = encoder
        self._before = encoder.before_media
        self._playback = playback
        self._clock = clock
        self._item_id = ""  # the current item's
        self._item = b'"item_id":""'  # as it stands in a delta
        self._given = 0  # bytes that may pass before a mark is due
        self._room = 0  # what is left of them

    def take(self, text: bytes) -> bool:
        """Pass on a frame of the current item; False if the message is none."""
        if not text.startswith(_DELTA):
            return False
        payload, end, _ = text.partition(self._item)[2].partition(_AUDIO)[2].partition(b'"')
        size = len(payload.rstrip(b"=")) * 3 // 4  # audio_size, without the call
        if not size or not end or not self._given:
            return False
        room = self._room - size
        if room > 0:
            self._room = room
            self._send(self._before + payload + b'"}}')
        else:
            self.play(self._item_id, payload)
        return True

    def play(self, item_id: str, payload: bytes) -> bool:
        """Send the caller a frame, and a mark when one is due; drop it if it was interrupted.

        Return whether it is the first of its item.
        """
        self.settle()
        mark = self._playback.sent(item_id, audio_size(payload), self._clock())
        if mark is None:
            return False
        self._send(self._encoder.media(payload))
        if mark:
            self._send(self._encoder.mark(mark))
        is_first = item_id != self._item_id
        if is_first:
            self._item_id, self._item = item_id, b'"item_id":"' + item_id.encode() + b'"'
        self.resume()
        return is_first

    def resume(self) -> None:
        """Let frames of the playback's item pass, which is the one that was played last."""
        self._given = self._room = self._playback.room

    def settle(self) -> None:
        """Tell the playback what has passed; until ``resume``, frames come through ``play``."""
        self._playback.passed(self._given - self._room)
        self._given = self._room = 0
