"""The hot path: audio on its way from one socket to the other, 50 messages a second each way.

A relay is offered every message. Of those that look exactly like audio it finds the base64 text
with a byte scan, and returns what the other side gets: its own kind of message, with that text
unchanged. Whatever else comes, or comes in another shape, is left to the parser.
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


def caller_frame(text: bytes) -> bytes | None:
    """Turn a media message of Twilio's into one that appends to the model's input buffer."""
    if not text.startswith(_MEDIA):
        return None
    head, _, rest = text.partition(_PAYLOAD)
    payload, end, _ = rest.partition(b'"')
    # find, since ``in`` looks for a number first, raises an error and drops it.
    if not payload or not end or head.find(_INBOUND) < 0:
        return None
    return APPEND + payload + b'"}'


class AgentRelay:
    """From the model's deltas to Twilio's media messages, with marks between them.

    The first frame of an item comes through ``play``, and so does each at which a mark is due. The
    others are only added up. Before anybody asks the playback something, ``settle`` tells it of
    them; once it has its answers, ``resume`` lets the next ones pass.
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
        self._given = 0  # bytes that may pass until a mark is due
        self._room = 0  # what is left of them

    def take(self, text: bytes) -> bytes | None:
        """Turn a delta of the current item into a media message, if no mark is due."""
        if not text.startswith(_DELTA):
            return None
        payload, end, _ = text.partition(self._item)[2].partition(_AUDIO)[2].partition(b'"')
        size = len(payload.rstrip(b"=")) * 3 // 4  # audio_size, without the call
        room = self._room - size
        if not size or not end or room <= 0:
            return None
        self._room = room
        return self._before + payload + b'"}}'

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
