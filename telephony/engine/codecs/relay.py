"""The hot path: audio between the two sockets, 50 messages a second in each direction.

A relay gets every message first. If a message looks exactly like audio, the relay finds the base64
text with a byte scan and returns the message for the other side, with that text unchanged. It
leaves every other message, and audio in another shape, to the parser.
"""

from __future__ import annotations

from collections.abc import Callable

from telephony.engine.audio import audio_size
from telephony.engine.codecs.interface import Send
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder

# As Twilio writes them. Quotes within a JSON string are escaped, so the next plain one ends it. An
# escaped slash in the audio stays as it is: it is valid JSON on the other side too.
_MEDIA = b'{"event":"media"'
_PAYLOAD = b'"payload":"'
_INBOUND = b'"track":"inbound"'


def caller_frames(append: bytes) -> Callable[[bytes], bytes | None]:
    """Return a converter of Twilio's media messages to a model's.

    :param append: the beginning of that message, up to the base64 text; a quote and a brace end it.
    """

    def caller_frame(text: bytes) -> bytes | None:
        if not text.startswith(_MEDIA):
            return None
        head, _, rest = text.partition(_PAYLOAD)
        payload, end, _ = rest.partition(b'"')
        # find is faster: ``in`` first tries to read its operand as a number, which raises an error.
        if not payload or not end or head.find(_INBOUND) < 0:
            return None
        return append + payload + b'"}'

    return caller_frame


class AgentRelay:
    """Sends the caller the model's audio, with marks between the frames.

    The first frame of an item, and each frame at which a mark is due, goes through ``play``. A
    protocol may let the others pass in ``take``, which only counts them. Call ``settle`` before you
    query the playback, so that it knows of them, and ``resume`` afterwards, so that the next frames
    take the short way again.
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
        self._item_id = ""  # of the current item
        self._item = b'"item_id":""'  # as a delta contains it
        self._given = 0  # bytes that may pass before a mark is due
        self._room = 0  # what is left of them

    def take(self, text: bytes) -> bytes | None:
        """Convert a message of the current item to a media message; None if it must be parsed."""
        return None

    def play(self, item_id: str, payload: bytes) -> bool:
        """Send the caller a frame, and a mark if one is due; drop it if its item was interrupted.

        Return True if it is the first frame of its item.
        """
        self.settle()
        mark = self._playback.sent(item_id, audio_size(payload), self._clock())
        if mark is None:
            return False
        self._send(self._encoder.media(payload))
        if (collected := self._playback.greeting_audio) is not None:
            collected.add(item_id, payload)
        if mark:
            self._send(self._encoder.mark(mark))
        is_first = item_id != self._item_id
        if is_first:
            self._item_id, self._item = item_id, b'"item_id":"' + item_id.encode() + b'"'
        self.resume()
        return is_first

    def resume(self) -> None:
        """Let frames of the playback's item pass: the item that was played last.

        None pass before the first item of the model, nor while the greeting's audio is collected.
        """
        collected = self._playback.greeting_audio
        passes = self._item_id and (collected is None or collected.is_full)
        self._given = self._room = self._playback.room if passes else 0

    def settle(self) -> None:
        """Report passed frames to the playback; until ``resume``, frames go through ``play``."""
        self._playback.passed(self._given - self._room)
        self._given = self._room = 0
