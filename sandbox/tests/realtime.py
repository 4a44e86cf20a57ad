"""Helpers for tests of the realtime model: a client without a socket, and OpenAI's own types."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from sandbox import speech
from sandbox.model import Script
from sandbox.model.script import Close, Drop
from sandbox.model.session import RealtimeSession
from sandbox.tests.models import AnyClient

_SERVER_EVENT: TypeAdapter[BaseModel] = TypeAdapter(RealtimeServerEvent)

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
PAUSE = [speech.SILENCE] * 30


def judge(event: dict[str, Any]) -> BaseModel:
    """Return the event as OpenAI's library parses it; it must know every field."""
    judged = _SERVER_EVENT.validate_python(event)
    assert type(judged).model_fields.keys() >= event.keys()
    return judged


def session_update(**changes: Any) -> dict[str, Any]:
    """Return the update that a phone call begins with."""
    changes = {"instructions": "Be friendly.", "tools": []} | changes
    detection = changes.pop("turn_detection", {"type": "semantic_vad", "eagerness": "high"})
    return {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "gpt-transcribe"},
                    "turn_detection": detection,
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
            },
            **changes,
        },
    }


def user_text(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content, **fields}
    return {"type": "conversation.item.create", "item": item}


def appends(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    return [
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(frame).decode()}
        for frame in frames
    ]


class Client(AnyClient):
    """Talks to a session that takes no time; every event in return is checked."""

    def __init__(self, *turns: Any, configure: bool = True, **script: Any) -> None:
        self.session = RealtimeSession("gpt-realtime-1.5", Script(turns=turns, **script))
        self.session.open()
        self.opening = self.read()
        if configure:
            self.send(session_update())

    def send(self, *events: dict[str, Any]) -> list[Any]:
        """Return the output: events, and a Close or Drop."""
        for event in events:
            self.put(event)
            self.session.advance(math.inf)
        return self.read()

    def put(self, *events: dict[str, Any]) -> None:
        """Send events while time stands still."""
        for event in events:
            self.session.receive(json.dumps(event))

    def read(self) -> list[Any]:
        outputs = self.session.take()
        for output in outputs:
            if not isinstance(output, Close | Drop):
                judge(output)
        return outputs

    def say(self, text: str) -> list[Any]:
        """Say something and pause, so that the turn is over."""
        return self.send(*appends([*speech.frames(text), *PAUSE]))

    def start_saying(self, text: str) -> list[Any]:
        return self.send(*appends(speech.frames(text)))

    def ask(self, **response: Any) -> list[Any]:
        return self.send({"type": "response.create", "response": response})


def types(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]
