"""One response: converts a turn to the events that the real server sends for it.

``Response.run`` yields events, pauses between them, and what is to happen to the connection. Its
consumer waits during the pauses; ``cancel`` takes effect when it resumes after one.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sandbox import speech
from sandbox.model.base import Event
from sandbox.model.conversation import Conversation, Item
from sandbox.model.errors import error_body
from sandbox.model.hearing import BYTES_PER_MS
from sandbox.model.script import (
    Call,
    Close,
    Disturbance,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Incomplete,
    Say,
    Stall,
    Step,
    Turn,
    Wait,
)
from sandbox.model.usage import OUTPUT_MS_PER_TOKEN, Meter, Tokens, text_tokens

# The real server begins to speak about half a second after the request, and then generates audio
# faster than it plays.
THINKING_MS = 250.0
FIRST_CHUNK_MS = 200
CHUNK_MS = 400
TIMES_REAL_TIME = 5
ARGUMENT_CHARACTERS = 12
ARGUMENT_MS = 20.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait that long; infinity means until the response is cancelled."""

    ms: float


Output = Event | Pause | Disturbance


class _Ended(Exception):
    """The response ends before its turn is complete."""

    def __init__(self, status: str, details: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.details = {"type": status, **details}


@dataclass(frozen=True, slots=True)
class Answer:
    """The parameters of a response: the session's configuration, with this response's overrides."""

    modality: str
    audio: dict[str, Any]
    max_output_tokens: int | str
    metadata: dict[str, Any] | None
    instructions: Tokens


class Response:
    """A response of the conversation, from ``response.created`` to ``response.done``."""

    def __init__(
        self,
        turn: Turn,
        answer: Answer,
        conversation: Conversation,
        conversation_id: str,
        meter: Meter,
        new_id: Callable[[str], str],
    ) -> None:
        self.id = new_id("resp")
        self._turn = turn
        self._answer = answer
        self._conversation = conversation
        self._conversation_id = conversation_id
        self._meter = meter
        self._new_id = new_id
        self._given = answer.instructions + conversation.tokens
        self._status = "in_progress"
        self._details: dict[str, Any] | None = None
        self._output: list[Item] = []
        self._usage: dict[str, Any] | None = None
        self._cancelled_for = ""

    def cancel(self, reason: str) -> None:
        """End the response: ``reason`` is turn_detected or client_cancelled."""
        self._cancelled_for = reason

    def run(self) -> Iterator[Output]:
        yield self._event("created")
        try:
            yield from self._pause(THINKING_MS)
            for step in self._turn:
                yield from self._take(step)
        except _Ended as end:
            self._status, self._details = end.status, end.details
        else:
            self._status = "completed"
        self._usage = self._meter.count(self._given, self._made)
        yield self._event("done")
        yield {"type": "rate_limits.updated", "rate_limits": self._meter.rate_limits()}

    def _take(self, step: Step) -> Iterator[Output]:
        match step:
            case Say():
                yield from self._say(step)
            case Call():
                yield from self._call(step)
            case Wait():
                yield from self._pause(step.ms)
            case Stall():
                yield from self._pause(math.inf)
            case Fail():
                error = error_body(step.code, step.message).wire()
                del error["param"]
                raise _Ended("failed", {"error": error})
            case Incomplete():
                raise _Ended("incomplete", {"reason": step.reason})
            case Error() | Close() | Drop() | Hold() | Expire():
                yield step

    def _pause(self, ms: float) -> Iterator[Output]:
        yield Pause(ms)
        if self._cancelled_for:
            raise _Ended("cancelled", {"reason": self._cancelled_for})

    # Messages

    def _say(self, step: Say) -> Iterator[Output]:
        item = self._new_item({"type": "message", "role": "assistant", "content": []})
        yield from self._begin(item)
        make = self._speak if self._answer.modality == "audio" else self._write
        part: dict[str, str] = {"type": self._answer.modality, self._words: ""}
        yield self._of(item, "content_part.added", content_index=0, part=dict(part))
        item.content.append({"type": f"output_{part['type']}", self._words: ""})
        ended = None
        try:
            yield from make(item, step)
        except _Ended as end:
            ended = end
        text = item.content[0][self._words]
        if self._answer.modality == "audio":
            yield self._of(item, "output_audio.done", content_index=0)
            yield self._of(item, "output_audio_transcript.done", content_index=0, transcript=text)
        else:
            yield self._of(item, "output_text.done", content_index=0, text=text)
        part[self._words] = text
        yield self._of(item, "content_part.done", content_index=0, part=part)
        yield from self._finish(item, ended)

    @property
    def _words(self) -> str:
        return "transcript" if self._answer.modality == "audio" else "text"

    def _speak(self, item: Item, step: Say) -> Iterator[Output]:
        """Send the audio in chunks, each preceded by its words."""
        audio = b"".join(speech.frames(step.text))
        words = _pieces(step.text)
        said, at, size = 0, 0, FIRST_CHUNK_MS
        while at < len(audio):
            chunk = audio[at : at + size * BYTES_PER_MS]
            at += len(chunk)
            until = -(-len(words) * at // len(audio))
            for word in words[said:until]:
                yield self._words_delta(item, "output_audio_transcript", word)
            said = until
            item.audio += chunk
            yield self._of(
                item, "output_audio.delta", content_index=0, delta=base64.b64encode(chunk).decode()
            )
            if step.stall_at_ms is not None and item.audio_ms >= step.stall_at_ms:
                yield from self._pause(math.inf)
            yield from self._pause(len(chunk) / BYTES_PER_MS / TIMES_REAL_TIME)
            size = CHUNK_MS

    def _write(self, item: Item, step: Say) -> Iterator[Output]:
        for word in _pieces(step.text):
            yield self._words_delta(item, "output_text", word)
            yield from self._pause(ARGUMENT_MS)

    def _words_delta(self, item: Item, kind: str, delta: str) -> Event:
        item.content[0][self._words] += delta
        return self._of(item, f"{kind}.delta", content_index=0, delta=delta)

    # Tool calls

    def _call(self, step: Call) -> Iterator[Output]:
        call_id = self._new_id("call")
        item = self._new_item(
            {"type": "function_call", "name": step.name, "call_id": call_id, "arguments": ""}
        )
        yield from self._begin(item)
        arguments = step.arguments
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        ended = None
        try:
            for at in range(0, len(arguments), ARGUMENT_CHARACTERS):
                delta = arguments[at : at + ARGUMENT_CHARACTERS]
                item.wire["arguments"] += delta
                yield self._of(item, "function_call_arguments.delta", call_id=call_id, delta=delta)
                yield from self._pause(ARGUMENT_MS)
            if step.cancelled:
                raise _Ended("cancelled", {"reason": "turn_detected"})
        except _Ended as end:
            ended = end
        yield self._of(
            item,
            "function_call_arguments.done",
            call_id=call_id,
            name=step.name,
            arguments=item.wire["arguments"],
        )
        yield from self._finish(item, ended)

    # What all items have in common

    def _new_item(self, fields: dict[str, Any]) -> Item:
        kind = fields.pop("type")
        status = {"id": self._new_id("item"), "type": kind, "status": "in_progress"}
        return Item({**status, **fields})

    def _begin(self, item: Item) -> Iterator[Output]:
        self._output.append(item)
        previous_id = self._conversation.add(item)
        yield self._item_event(item, "added")
        yield {
            "type": "conversation.item.added",
            "previous_item_id": previous_id,
            "item": item.wire,
        }

    def _finish(self, item: Item, ended: _Ended | None) -> Iterator[Output]:
        item.wire["status"] = "incomplete" if ended else "completed"
        yield {
            "type": "conversation.item.done",
            "previous_item_id": self._conversation.before(item),
            "item": item.wire,
        }
        yield self._item_event(item, "done")
        if ended:
            raise ended

    def _item_event(self, item: Item, what: str) -> Event:
        return {
            "type": f"response.output_item.{what}",
            "response_id": self.id,
            "output_index": self._output.index(item),
            "item": item.wire,
        }

    def _of(self, item: Item, kind: str, **fields: Any) -> Event:
        return {
            "type": f"response.{kind}",
            "response_id": self.id,
            "item_id": item.id,
            "output_index": self._output.index(item),
            **fields,
        }

    @property
    def _made(self) -> Tokens:
        audio_ms = sum(item.audio_ms for item in self._output)
        text = "".join(item.text for item in self._output)
        return Tokens(text_tokens(text), -(-audio_ms // OUTPUT_MS_PER_TOKEN))

    def _event(self, what: str) -> Event:
        answer = self._answer
        return {
            "type": f"response.{what}",
            "response": {
                "object": "realtime.response",
                "id": self.id,
                "status": self._status,
                "status_details": self._details,
                "output": [item.wire for item in self._output],
                "conversation_id": self._conversation_id,
                "output_modalities": [answer.modality],
                "max_output_tokens": answer.max_output_tokens,
                "audio": answer.audio,
                "usage": self._usage,
                "metadata": answer.metadata,
            },
        }


def _pieces(text: str) -> list[str]:
    """Return the words, each with the space before it; joined they are the text."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]
