"""The items of a conversation, in order."""

from __future__ import annotations

import base64
import copy
from dataclasses import dataclass, field
from typing import Any

from sandbox import speech
from sandbox.model.errors import ClientError
from sandbox.model.hearing import BYTES_PER_MS
from sandbox.model.usage import INPUT_MS_PER_TOKEN, OUTPUT_MS_PER_TOKEN, Tokens, text_tokens

ROOT = "root"


@dataclass(slots=True, eq=False)
class Item:
    """An item. ``wire`` is the item as clients see it: without audio unless they retrieve it."""

    wire: dict[str, Any]
    audio: bytearray = field(default_factory=bytearray)

    @property
    def id(self) -> str:
        return str(self.wire["id"])

    @property
    def is_from_model(self) -> bool:
        return self.wire.get("role") == "assistant"

    @property
    def wants_an_answer(self) -> bool:
        """Return True if it is new to the model: a user's words, or a tool's result."""
        return self.wire.get("role") == "user" or self.wire["type"] == "function_call_output"

    @property
    def content(self) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = self.wire.get("content", [])
        return content

    @property
    def audio_ms(self) -> int:
        return len(self.audio) // BYTES_PER_MS

    @property
    def text(self) -> str:
        """The words that were said, written, called or returned."""
        if self.audio and not self.is_from_model:
            return speech.hear([bytes(self.audio)])
        written = [part.get("text") or part.get("transcript") or "" for part in self.content]
        return " ".join(
            [*written, self.wire.get("arguments", ""), self.wire.get("output", "")]
        ).strip()

    @property
    def tokens(self) -> Tokens:
        """The tokens that reading it costs; the transcript of audio is not read."""
        if self.audio:
            per_token = OUTPUT_MS_PER_TOKEN if self.is_from_model else INPUT_MS_PER_TOKEN
            return Tokens(audio=-(-self.audio_ms // per_token))
        return Tokens(text=text_tokens(self.text))

    def with_audio(self) -> dict[str, Any]:
        """Return the item as a client retrieves it."""
        wire = copy.deepcopy(self.wire)
        for part in wire.get("content", []):
            if part["type"].endswith("audio"):
                part["audio"] = base64.b64encode(self.audio).decode()
        return wire


def item_from_client(given: dict[str, Any], new_id: str) -> Item:
    """Return the item of a valid ``conversation.item.create``, which may contain audio."""
    wire = {"id": None, **given, "status": "completed"}
    wire["id"] = wire["id"] or new_id
    item = Item(wire)
    for index, part in enumerate(item.content):
        if part["type"] == "input_audio":
            item.audio += decode_audio(part.pop("audio"), f"item.content[{index}].audio")
            part.setdefault("transcript", None)
    return item


def decode_audio(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # also for text that is not ASCII
        raise ClientError(
            f"Invalid '{path}'. Expected base64-encoded audio bytes.", param=path
        ) from None


class Conversation:
    def __init__(self) -> None:
        self.items: list[Item] = []

    @property
    def tokens(self) -> Tokens:
        return sum((item.tokens for item in self.items), Tokens())

    @property
    def last_id(self) -> str | None:
        return self.items[-1].id if self.items else None

    @property
    def has_model_audio(self) -> bool:
        return any(item.is_from_model and item.audio for item in self.items)

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Insert the item after another one, or last; return the id of its predecessor."""
        if self._find(item.id):
            raise ClientError(
                f"Error adding item: an item with id '{item.id}' already exists.", param="item.id"
            )
        if item.wire["type"] == "function_call_output":
            self._expect_call(item.wire["call_id"])
        at = self._place_after(after)
        self.items.insert(at, item)
        return self.items[at - 1].id if at else None

    def before(self, item: Item) -> str | None:
        """Return the id of the item before this one, which may have been deleted since."""
        at = self.items.index(item) if item in self.items else 0
        return self.items[at - 1].id if at else None

    def retrieve(self, item_id: str) -> Item:
        return self._known(item_id, "retriev")

    def delete(self, item_id: str) -> None:
        self.items.remove(self._known(item_id, "delet"))

    def truncate(self, item_id: str, audio_end_ms: int) -> None:
        """Cut the model's audio to what was heard, and delete its transcript, which no longer
        matches.
        """
        item = self._known(item_id, "truncat")
        if not (item.is_from_model and item.audio):
            raise ClientError("Only model output audio messages can be truncated", code=None)
        if audio_end_ms > item.audio_ms:
            raise ClientError(
                f"Audio content of {item.audio_ms}ms is already shorter than {audio_end_ms}ms"
            )
        del item.audio[audio_end_ms * BYTES_PER_MS :]
        for part in item.content:
            part["transcript"] = ""

    def _find(self, item_id: str) -> Item | None:
        return next((item for item in self.items if item.id == item_id), None)

    def _known(self, item_id: str, verb: str) -> Item:
        if item := self._find(item_id):
            return item
        raise ClientError(
            f"Error {verb}ing item: the item with id '{item_id}' does not exist.",
            code=f"item_{verb}e_invalid_item_id",
        )

    def _expect_call(self, call_id: str) -> None:
        calls = {
            item.wire.get("call_id") for item in self.items if item.wire["type"] == "function_call"
        }
        if call_id not in calls:
            raise ClientError(
                f"Tool call ID '{call_id}' not found in conversation.", code="invalid_tool_call_id"
            )

    def _place_after(self, item_id: str | None) -> int:
        if item_id == ROOT:
            return 0
        if not item_id:
            return len(self.items)
        for index, item in enumerate(self.items):
            if item.id == item_id:
                return index + 1
        raise ClientError(
            f"Error adding item: the previous item with id '{item_id}' does not exist.",
            code="item_create_invalid_previous_item_id",
        )
