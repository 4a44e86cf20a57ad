"""The delegated Responses model: which calls are open, when it may continue, what it may be given.

The backend runs one task at a time. It continues when its response is complete, every call has its
output, and one ``response.create`` asks it to. What a session may give it is limited.
"""

from __future__ import annotations

from typing import Any

# OpenAI's limits for a session are 128 items and 32,768 bytes, with results and messages together.
# The rest of them is for placeholders: a call without an output would silence the agent for good.
MOST_ITEMS = 100
MOST_BYTES = 30_000
# Of one result or message: the voice cannot say more anyway.
LONGEST_BYTES = 8_000
# Bytes: in English, 500 tokens have some 2,000, and in Chinese as many, of fewer characters.
LONGEST_APPENDED = 1_700
TOO_LONG = '{"error":"The result is too long."}'
_PLACEHOLDER = "{}"

Message = dict[str, Any]


class Work:
    def __init__(self) -> None:
        self._open: set[str] = set()
        self._is_running = False
        self._wanted: str | None = None  # the id of a request that waits
        self._asked = ""  # the id of one that was sent, and has not become a response
        self._is_refused = False  # the one that was sent
        self._has_input = False
        #: True if only the voice knows of a result, and has not been asked about it.
        self.is_for_voice = False
        self._items = 0
        self._bytes = 0

    # What the backend reports

    def began(self) -> None:
        self._is_running, self._is_refused, self._asked = True, False, ""

    def refused(self, about: str) -> None:
        """Record an error about a request, or "" for one that names nothing.

        If the request has not become a response, it may be sent again without new input.
        """
        if self._asked and about in ("", self._asked):
            self._is_refused = True

    def called(self, call_id: str) -> None:
        self._open.add(call_id)

    def ended(self, *, is_complete: bool) -> None:
        """Record the end of a response; the calls of one that failed are void."""
        self._is_running = False
        if not is_complete:
            self._open.clear()

    # What it is given

    def add_result(self, item_id: str, call_id: str, result: str) -> list[Message]:
        """Return the messages that give a result; a void call's is only made known."""
        if call_id not in self._open:
            self.is_for_voice = True
            return [thought(item_id, result)]
        self._open.discard(call_id)
        self._has_input = True
        item = {"type": "function_call_output", "call_id": call_id}
        return [self._item(item_id, {**item, "output": self._fitting(result, TOO_LONG)})]

    def add_text(self, item_id: str, role: str, text: str) -> list[Message]:
        self._has_input = True
        content = [{"type": "input_text", "text": self._fitting(text, "…")}]
        return [self._item(item_id, {"type": "message", "role": role, "content": content})]

    def ask(self, request_id: str) -> bool:
        """Ask for a response as soon as it may come; return False if there is nothing new."""
        if not self._has_more:
            return False
        self._wanted = request_id
        return True

    def due(self) -> list[Message]:
        """Return the request that waited, if the backend may continue."""
        if self._wanted is None or self._is_running or self._open or not self._has_more:
            return []
        self._asked, self._wanted = self._wanted, None
        self._has_input = self._is_refused = False
        return [{"type": "response.create", "event_id": self._asked}]

    @property
    def _has_more(self) -> bool:
        """Return True if the backend has something to respond to."""
        return self._has_input or self._is_refused

    def _fitting(self, text: str, otherwise: str) -> str:
        """Return the text if the budget has room for it, and count it."""
        for candidate in (text, otherwise):
            size = len(candidate.encode(errors="replace"))
            fits = size <= LONGEST_BYTES and self._bytes + size <= MOST_BYTES
            if fits and self._items < MOST_ITEMS:
                self._items += 1
                self._bytes += size
                return candidate
        return _PLACEHOLDER

    @staticmethod
    def _item(item_id: str, item: dict[str, Any]) -> Message:
        return {"type": "response.item.create", "event_id": item_id, "item": item}


def thought(item_id: str, text: str) -> Message:
    """Return the message that makes something known to the voice."""
    return append("thinking", item_id, text)


def append(kind: str, event_id: str, text: str) -> Message:
    """Return the message that appends a text, of which OpenAI takes 500 tokens."""
    return {
        "type": f"session.{kind}.append",
        "event_id": event_id,
        "delegation_id": None,
        "content": text.encode(errors="replace")[:LONGEST_APPENDED].decode(errors="ignore"),
    }
