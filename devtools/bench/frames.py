"""The messages of a simulated call, as Twilio and OpenAI send them.

A frame's audio begins with 16 digits: the microsecond when it was sent. Digits are valid base64, so
the audio remains valid, and its round trip can be timed and checked.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

AUDIO_BYTES = 160  # 20 ms of mu-law at 8 kHz
PAYLOAD = len(base64.b64encode(bytes(AUDIO_BYTES)))
STAMP = 16

# Numbers begin where they do not gain a digit during a measurement: all frames have one size.
_FIRST_NUMBER = 100_000


def audio_of(call: int) -> bytes:
    """Return the base64 audio that follows the stamp in every frame of a call."""
    sound = b"".join(hashlib.sha256(b"%d %d" % (call, part)).digest() for part in range(5))
    return base64.b64encode(sound)[STAMP:]


def stream_sid(call: int) -> str:
    return f"MZ{call:032x}"


def dumps(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


# From Twilio


def connected() -> bytes:
    return dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


def start(call: int) -> bytes:
    sid = stream_sid(call)
    return dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": f"AC{0:032x}",
                "streamSid": sid,
                "callSid": f"CA{call:032x}",
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"ticket": f"{call}.bench"},
            },
            "streamSid": sid,
        }
    )


def media_head(number: int) -> bytes:
    """Return a media message up to its audio; ``number`` counts the call's frames from 0."""
    number += _FIRST_NUMBER
    return (
        b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d",'
        b'"timestamp":"%d","payload":"' % (number + 1, number, number * 20)
    )


def media_tail(call: int) -> bytes:
    """Return the rest of a media message, after the stamp."""
    return audio_of(call) + b'"},"streamSid":"' + stream_sid(call).encode() + b'"}'


def mark(call: int, name: str) -> bytes:
    return dumps(
        {
            "event": "mark",
            "sequenceNumber": str(_FIRST_NUMBER),
            "streamSid": stream_sid(call),
            "mark": {"name": name},
        }
    )


def stop(call: int) -> bytes:
    return dumps(
        {
            "event": "stop",
            "sequenceNumber": str(_FIRST_NUMBER),
            "stop": {"accountSid": f"AC{0:032x}", "callSid": f"CA{call:032x}"},
            "streamSid": stream_sid(call),
        }
    )


# From OpenAI


def session_created(session: int) -> bytes:
    return _model_event("session.created", session, session={"id": f"sess_{session:021d}"})


def session_updated(session: int) -> bytes:
    return _model_event("session.updated", session, session={"id": f"sess_{session:021d}"})


def delta_head(session: int) -> bytes:
    """Return an audio delta up to its audio; the rest is ``"}``."""
    message = _model_event(
        "response.output_audio.delta",
        session,
        response_id=f"resp_{session:021d}",
        item_id=f"item_{session:021d}",
        output_index=0,
        content_index=0,
        delta="",
    )
    return message[:-2]


def _model_event(kind: str, number: int, **fields: Any) -> bytes:
    return dumps({"type": kind, "event_id": f"event_{number:021d}", **fields})
